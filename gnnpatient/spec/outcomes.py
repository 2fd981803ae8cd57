"""What is to be predicted: time to an event, a class, or the course of a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from gnnpatient.errors import InputError
from gnnpatient.spec.patterns import fitting
from gnnpatient.spec.tables import Moment, Names, PatientSpec, PickSpec, Record, Where
from gnnpatient.times import seconds

Words = tuple[str, ...]
# no and yes, as they may be written
_NO_AND_YES: tuple[Words, ...] = (("0", "1"), ("0.0", "1.0"), ("false", "true"), ("False", "True"))
_ANY_DAY: tuple[Words, ...] = (("of any day",),)  # fits * alone


_START = (
    "column of start-stop rows, instead of time: a patient is observed from here on; a first start after "
    "day 0 is the entry, and nobody is observed between two rows"
)
_STOP = "column: with start: up to here; the end of the last row is the end of observation"
_PICK = (
    "with start and stop: which row holds the event, where several of a patient do: the first one with it "
    "(recurrent events), or the last row (an event repeated on every row); default: such rows are refused"
)


def _check_stretch(start: str | None, stop: str | None, pick: str | None) -> None:
    if (start is None) != (stop is None):
        raise InputError("start = COLUMN and stop = COLUMN belong together")
    if pick is not None and start is None:
        raise InputError("pick belongs to start and stop; of other rows the earliest counts")
    if start is not None and start == stop:
        raise InputError(f"start and stop are both {start!r}; name two columns")


class CauseSpec(Record):
    """One cause of a survival outcome: a column, rows of an event table, codes of a node type, or start-stop
    rows (counting process): who is followed from `start` to `stop`, with the event at its end or without."""

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
    node: str | None = Field(default=None, description="instead of time: the node type with the event")
    codes: Names = Field(
        default=(), description="patterns of codes of that node type; the earliest row counts"
    )
    start: str | None = Field(default=None, description=_START)
    stop: str | None = Field(default=None, description=_STOP)
    pick: Literal["first", "last"] | None = Field(default=None, description=_PICK)

    @model_validator(mode="after")
    def _one_form(self) -> CauseSpec:
        _check_stretch(self.start, self.stop, self.pick)
        if self.start is not None:
            if self.time or self.where or self.node:
                raise InputError(
                    "a cause takes either start, stop and flag, or time, where or node, not both"
                )
            if self.flag is None:
                raise InputError("start and stop need flag = COLUMN: 1 = the event happened at stop")
        if (self.node is None) != (not self.codes):
            raise InputError("node = NAME and codes = [...] belong together")
        if self.node is not None and (self.time or self.flag or self.table or self.where):
            raise InputError("a cause takes either node and codes, or a column time, not both")
        if self.where and self.flag:
            raise InputError("flag and where are two ways to say which rows count; remove one of them")
        return self


Causes = Annotated[
    tuple[CauseSpec, ...],
    Field(strict=False, min_length=1),
    BeforeValidator(lambda raw: [raw] if isinstance(raw, dict) else raw),
]


class StatusSpec(Record):
    """A survival outcome whose state is in one column, as in 0 = censored, 1 = transplant, 2 = death."""

    column: str = Field(description="column with the state")
    time: str | None = Field(default=None, description="column with the time of that state")
    states: dict[str, str] = Field(description='what each state means: "censored", or the name of a cause')
    start: str | None = Field(default=None, description=_START)
    stop: str | None = Field(default=None, description=_STOP)
    pick: Literal["first", "last"] | None = Field(default=None, description=_PICK)

    @model_validator(mode="after")
    def _one_form(self) -> StatusSpec:
        _check_stretch(self.start, self.stop, self.pick)
        if (self.time is None) == (self.start is None):
            raise InputError("status needs either time = COLUMN, or start and stop")
        return self


class RowsOfEvents(NamedTuple):
    """Rows of a table that say what came of a patient.

    Attributes
    ----------
    table : str
        The file.
    time : str
        The column with their time.
    where : mapping
        Which rows they are.
    columns : frozenset of str
        The columns that only rows known at that time may show.
    is_end : bool
        They end observation; else they are events.
    """

    table: str
    time: str
    where: dict[str, Names]
    columns: frozenset[str]
    is_end: bool = False


class BaseOutcomeSpec(Record):
    """What every kind of outcome can be asked: its answers, and where they are read from."""

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
    def stretches(self) -> tuple[str | None, str, str] | None:
        """The table, start and stop of start-stop rows; None where there are none."""
        return None

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

    def answer_columns(self, patient: PatientSpec, table: str | None = None) -> set[str]:
        """The columns that hold the answer.

        Parameters
        ----------
        patient : PatientSpec
            `[patient]` of the same spec.
        table : str, optional
            Only those of this file; default: of whichever table.

        Returns
        -------
        set of str
        """
        return set()

    def columns_apart(self, patient: PatientSpec) -> set[str]:
        """Columns of the patient table that tell a row with the event, or with the end, from others.

        Parameters
        ----------
        patient : PatientSpec
            `[patient]` of the same spec.

        Returns
        -------
        set of str
        """
        ends = (self.end_of_observation, patient.exit)
        picks = [end for end in ends if isinstance(end, PickSpec) and end.table == patient.table]
        return {pick.column for pick in picks if pick.column is not None}

    def rows_of_events(self, patient: PatientSpec) -> Iterator[RowsOfEvents]:
        """Rows that say what came of a patient, which nodes may show from their own time on only.

        Parameters
        ----------
        patient : PatientSpec
            `[patient]` of the same spec.

        Yields
        ------
        RowsOfEvents
        """
        for end in (self.end_of_observation, patient.exit):
            if isinstance(end, PickSpec) and end.table is not None and end.column is not None:
                yield RowsOfEvents(end.table, end.column, end.where, frozenset({end.column}), is_end=True)

    def shown_when_it_happens(self, node: Any) -> set[str]:
        """Columns with the answer that a node may read all the same, as it is known when the event happens.

        Parameters
        ----------
        node : NodeSpec
            A node type of the table with the answer.

        Returns
        -------
        set of str
        """
        return set()

    def answer_words(self, patient: PatientSpec) -> dict[str, tuple[Words, ...]]:
        """The words that `where` of [patient] must fit, by column of the patient table that holds the answer.

        All words of one of the forms must fit. A column without a form may not choose patients at all, since
        who has a date there has the event.

        Parameters
        ----------
        patient : PatientSpec
            `[patient]` of the same spec.

        Returns
        -------
        dict of str to tuple of forms
        """
        return {}


class SurvivalSpec(BaseOutcomeSpec):
    """Time to the first of several causes; or events that recur until a cause ends them."""

    answers_key: ClassVar[str] = "causes"
    kind: Literal["survival"] = Field(description="survival: time to the first of several causes")
    table: str | None = Field(default=None, description="file; not needed where every cause has its own")
    causes: dict[str, Causes] | None = Field(
        default=None,
        description="cause = { time, flag }, { time, where }, { node, codes } or { start, stop, flag }, or a "
        "list of them; the earliest counts",
    )
    status: StatusSpec | None = Field(
        default=None, description="instead of causes: one column that names the state"
    )
    exit: Moment | None = Field(
        default=None,
        description="observation for this outcome ends: a column, a duration, { code, pick } or { table, "
        "column, where, pick }; a column or a pick replaces that of [patient], a duration limits it; of this "
        "end, the ends of its causes and periods of observation the earliest counts",
    )
    prevalent: Literal["exclude"] = Field(
        default="exclude", description="events at or before entry are left out"
    )
    recurrent: bool = Field(
        default=False,
        description="true: the first cause happens again and again, and every one of its rows counts; the "
        "other causes end it",
    )
    states: Names = Field(
        default=(),
        description='transitions that there are, as in "well -> relapse"; a patient begins in the first '
        "state, each other one is entered at every time of the cause of its name, and what cannot be left "
        "ends it",
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
                raise InputError(f"cause {name!r} is a reserved name; choose another")
        stretches = {(p.table or self.table, p.start, p.stop) for _, p in self.parts if p.start is not None}
        if len(stretches) > 1:
            raise InputError(
                "causes with different start and stop: those of one outcome share the table and both columns"
            )
        if self.recurrent:
            self._check_recurrent()
        if self.states:
            self._check_states()
        return self

    def _check_states(self) -> None:
        if self.recurrent:
            raise InputError(
                "recurrent = true and states = [...] are two kinds of outcome; remove one of them"
            )
        for move in self.states:
            ends = [end.strip() for end in move.split("->")]
            if len(ends) != 2 or not all(ends) or ends[0] == ends[1]:
                raise InputError(f'states: {move!r} is no transition; write "FROM -> TO"')
        if len(set(self.moves)) < len(self.moves):
            raise InputError("states: a transition is named twice")
        first, names = self.moves[0][0], set(self.cause_names)
        if lacking := [name for name in self.state_names if name not in names and name != first]:
            raise InputError(f"states: nothing says when {lacking[0]!r} is entered; add it to causes")
        if strange := names - set(self.state_names):
            raise InputError(f"states: no transition leads to the cause {min(strange)!r}")
        if not self.ending.cause_names:
            raise InputError("states: every state can be left; one at least must end it, as death does")

    @property
    def moves(self) -> tuple[tuple[str, str], ...]:
        """From and to which state each transition leads; none without states."""
        pairs = (move.split("->") for move in self.states)
        return tuple((source.strip(), target.strip()) for source, target in pairs)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states: those that can be left, the one to begin in first, then those that end it."""
        every = dict.fromkeys(name for move in self.moves for name in move)
        left = dict.fromkeys(source for source, _ in self.moves)
        return (*left, *(name for name in every if name not in left))

    @property
    def passing(self) -> tuple[str, ...]:
        """Causes that do not end it: the event that recurs, or the states that can be left."""
        if self.recurrent:
            return self.cause_names[:1]
        left = {source for source, _ in self.moves}
        return tuple(name for name in self.cause_names if name in left)

    def _check_recurrent(self) -> None:
        first = self.cause_names[0]
        of_first = [part for cause, part in self.parts if cause == first]
        picks = [self.status.pick] if self.status is not None else [part.pick for part in of_first]
        if any(picks):
            raise InputError("recurrent = true counts every event, and pick chooses one; remove one of them")
        rows = any(part.start or part.where or part.node for part in of_first) or len(of_first) > 1
        if not rows and (self.status is None or self.status.start is None):
            raise InputError(
                f"recurrent = true needs many rows of {first!r}: where = {{...}}, node and codes, start and "
                "stop, or a list of columns"
            )

    @property
    def ending(self) -> SurvivalSpec:
        """The same without the causes that do not end it: what ends it, if anything does."""
        if not (passing := self.passing):
            return self.model_copy(update={"states": ()}) if self.states else self
        causes, status = self.causes, self.status
        if causes is not None:
            causes = {name: parts for name, parts in causes.items() if name not in passing}
        if status is not None:
            states = {cell: state for cell, state in status.states.items() if state not in passing}
            status = status.model_copy(update={"states": states})
        return self.model_copy(update={"recurrent": False, "states": (), "causes": causes, "status": status})

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
        return self.stretches is not None or any(part.where or part.node for _, part in self.parts)

    @property
    def stretches(self) -> tuple[str | None, str, str] | None:
        """The table, start and stop of start-stop rows; None where there are none."""
        for form in (self.status, *(part for _, part in self.parts)):
            if form is not None and form.start is not None and form.stop is not None:
                return getattr(form, "table", None) or self.table, form.start, form.stop
        return None

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
            if part.node is None and ((part.time or part.start) is None or not (part.table or self.table)):
                yield cause

    def answer_columns(self, patient: PatientSpec, table: str | None = None) -> set[str]:
        """The columns that hold the answer.

        Parameters
        ----------
        patient : PatientSpec
            `[patient]` of the same spec.
        table : str, optional
            Only those of this file; default: of whichever table.

        Returns
        -------
        set of str
        """
        found: list[tuple[str | None, Any]] = [(self.table, self.exit), (patient.table, patient.exit)]
        if (status := self.status) is not None:
            found += [(self.table, c) for c in (status.column, status.time, status.start, status.stop)]
        for _, part in self.parts:
            if not part.where:  # rows of an event table are told apart by their words
                # `start` as a value; as the time of a node it says who is at risk then, and no more
                columns = (part.time, part.flag, part.start, part.stop)
                found += [(part.table or self.table, column) for column in columns]
        return {column for of, column in found if isinstance(column, str) and table in (None, of)}

    def columns_apart(self, patient: PatientSpec) -> set[str]:
        """Columns of the patient table that tell a row with the event, or with the end, from others.

        Parameters
        ----------
        patient : PatientSpec
            `[patient]` of the same spec.

        Returns
        -------
        set of str
        """
        parts = [part for _, part in self.parts if (part.table or self.table) == patient.table and part.where]
        apart = {name for part in parts for name in (part.time or "", *part.where)}
        return super().columns_apart(patient) | apart

    def rows_of_events(self, patient: PatientSpec) -> Iterator[RowsOfEvents]:
        """Rows that say what came of a patient, which nodes may show from their own time on only.

        Parameters
        ----------
        patient : PatientSpec
            `[patient]` of the same spec.

        Yields
        ------
        RowsOfEvents
        """
        yield from super().rows_of_events(patient)
        for _, part in self.parts:
            table, time = part.table or self.table, part.time or "time"
            if part.where and table is not None:
                yield RowsOfEvents(table, time, part.where, frozenset({time, *part.where}))

    def shown_when_it_happens(self, node: Any) -> set[str]:
        """Columns with the answer that a node may read all the same, as it is known when the event happens.

        That is the flag of an event with a time of its own, in a row that has it: the node does not exist
        before, and a row without the event is none.

        Parameters
        ----------
        node : NodeSpec
            A node type of the table with the answer.

        Returns
        -------
        set of str
        """
        found, others = set[str](), set[str]()
        no, yes = zip(*_NO_AND_YES, strict=True)
        for _, part in self.parts:
            if part.flag is None:
                continue
            time = part.stop if self.passing and part.start is not None else part.time
            own = (part.table or self.table) == node.table and time is not None
            own &= time in (node.time, node.known)
            words = node.where.get(part.flag, ())
            happened = any(fitting(yes, words)) and not any(fitting(no, words))
            (found if own and happened else others).add(part.flag)
        return found - others

    def answer_words(self, patient: PatientSpec) -> dict[str, tuple[Words, ...]]:
        """The words that `where` of [patient] must fit, by column of the patient table that holds the answer.

        All words of one of the forms must fit. A column without a form may not choose patients at all, since
        who has a date there has the event.

        Parameters
        ----------
        patient : PatientSpec
            `[patient]` of the same spec.

        Returns
        -------
        dict of str to tuple of forms
        """
        found: dict[str, tuple[Words, ...]] = {}
        for _, part in self.parts:
            if (part.table or self.table) == patient.table and (part.time or part.stop) and not part.where:
                found[part.time or part.stop or ""] = _ANY_DAY if part.flag else ()
                found |= {part.flag: _NO_AND_YES} if part.flag else {}
        if self.status and self.table == patient.table:
            time = self.status.time or self.status.stop or ""
            found |= {time: _ANY_DAY, self.status.column: (tuple(self.status.states),)}
        return found


NOBODY = "none"  # as `gone`: only the end of observation censors


def _by_label(raw: Any) -> Any:
    """Labels with a list each: alone a name is what the label is read from, too."""
    if isinstance(raw, list | tuple):
        raw = {name: name for name in raw}
    if not isinstance(raw, dict):
        return raw
    return {name: [of] if isinstance(of, str) else of for name, of in raw.items()}


Labels = Annotated[dict[str, Names], BeforeValidator(_by_label)]


class DiagnosisSpec(BaseOutcomeSpec):
    """Which of some classes, or of some labels, a patient has, forecast before that is known."""

    kind: Literal["diagnosis"] = Field(description="diagnosis: one of some classes, or each of some labels")
    table: str | None = Field(default=None, description="file with the label")
    column: str | None = Field(default=None, description="column of that table with the label")
    known: str | None = Field(
        default=None,
        description="column of that table: when the label became known; default: never within the data",
    )
    classes: dict[str, str] = Field(
        default={},
        description="cell = class; a patient with another cell has no label; of two classes scores are of "
        "the last; default: 0 = no, 1 = yes",
    )
    ordered: Names = Field(
        default=(),
        description="the classes from the lowest to the highest, where they have an order, as stages or the "
        "steps of a scale; without classes the cells themselves",
    )
    labels: Labels = Field(
        default={},
        description="instead of column or codes: several labels, each yes, no or not looked for by itself; "
        "columns of the table, or patterns of codes, or { label = column } and { label = [patterns] }",
    )
    node: str | None = Field(default=None, description="instead of a table: the node type with the label")
    codes: Names = Field(default=(), description="patterns of codes of that node type that mean yes")
    task: str | None = Field(
        default=None,
        description="instead of both: an ACES task file (.yaml) in the data folder, about a format's events",
    )
    horizon: str | None = Field(
        default=None,
        description="with codes: yes = a code within this time; no = observed for as long, or gone, "
        "without one",
    )
    gone: str | None = Field(
        default=None,
        description="with horizon: survival outcome whose events end it and mean no instead of censored; "
        "none = no outcome does; default: every cause after which a patient's rows end",
    )
    gap: str = Field(default="1d", description="a landmark must lie this long before the label is known")
    when: Literal["future", "same"] = Field(
        default="future",
        description="future: known after the landmark; same: what the inputs show at the landmark, where all "
        "other node types are hidden",
    )
    inputs: Names = Field(default=(), description="with same: the node types that are shown")
    hide: Names = Field(
        default=(), description="patterns of codes that give the label away; they never become nodes"
    )

    @model_validator(mode="before")
    @classmethod
    def _implied(cls, raw: Any) -> Any:
        if (
            not isinstance(raw, dict)
            or raw.get("classes")
            or not isinstance(raw.get("ordered"), list | tuple)
        ):
            return raw
        return raw | {"classes": {cell: cell for cell in raw["ordered"]}}

    @model_validator(mode="after")
    def _one_form(self) -> DiagnosisSpec:
        if self.labels:
            self._check_labels()
        elif (self.table is None) != (self.column is None) or (self.node is None) != (not self.codes):
            raise InputError("a diagnosis needs table and column, or node and codes")
        if self.ordered:
            self._check_order()
        if [self.table, self.node, self.task].count(None) != 2:
            raise InputError("a diagnosis needs one of table and column, node and codes, and task")
        if self.task is not None and (self.known or self.classes or self.horizon or self.inputs):
            raise InputError(
                "a task file has its own prediction time and label; beside task only gap and hide are allowed"
            )
        if self.node is not None and self.when == "future" and self.horizon is None:
            raise InputError('node and codes need horizon = DURATION, unless when = "same"')
        if self.table is not None and self.horizon is not None:
            raise InputError("horizon belongs to node and codes; a column with the label has no horizon")
        if self.gone is not None and (self.node is None or self.horizon is None):
            raise InputError("gone belongs to node and codes with horizon = DURATION")
        if self.node is not None and (self.known or self.classes):
            raise InputError(
                "known and classes belong to table and column; with node and codes a code means yes"
            )
        if (self.when == "same") != bool(self.inputs):
            raise InputError('when = "same" and inputs = [NAMES] belong together')
        if seconds(self.gap) < 0 or (self.horizon and seconds(self.horizon) <= 0):
            raise InputError(
                f"gap = {self.gap!r}, horizon = {self.horizon!r}; gap must be >= 0 and horizon > 0"
            )
        if len(set(self.class_names)) < 2:
            raise InputError(
                f"classes name {len(set(self.class_names))} class; a diagnosis needs two or more"
            )
        return self

    def _check_labels(self) -> None:
        """Refuse labels that are not read one way, each from a source of its own."""
        if self.column is not None or self.codes or self.task is not None or self.ordered:
            raise InputError("labels stand instead of column, codes, task and ordered; remove the other key")
        if len(self.labels) < 2:
            raise InputError(f"labels name {len(self.labels)} label; of one write column, or codes")
        if self.table is not None and (many := [n for n, of in self.labels.items() if len(of) != 1]):
            raise InputError(f"labels: {many[0]!r} must be one column of the table")
        if empty := [name for name, of in self.labels.items() if not of]:
            raise InputError(f"labels: {empty[0]!r} has no codes")
        if self.classes and set(self.classes.values()) != {"no", "yes"}:
            raise InputError('classes beside labels say which cells mean "no" and "yes", and no other class')

    def _check_order(self) -> None:
        """Refuse an order that is not one of the classes."""
        if self.column is None:
            raise InputError("ordered belongs to table and column")
        if len(self.ordered) < 3 or len(set(self.ordered)) < len(self.ordered):
            raise InputError(f"ordered = {list(self.ordered)}; must be three or more different classes")
        if other := sorted(set(self.ordered) ^ set(self.classes.values())):
            raise InputError(f"ordered and classes must name the same classes; {other[0]!r} is in one alone")

    @property
    def answers_key(self) -> str:  # type: ignore[override]
        """The key that names the answers."""
        return "labels" if self.labels else "ordered" if self.ordered else "classes"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in their order, else in that of the TOML; label k is the k-th, from 0."""
        if self.labels:
            return ("no", "yes")
        return self.ordered or tuple(dict.fromkeys(self.classes.values())) or ("no", "yes")

    @property
    def each_label(self) -> dict[str, DiagnosisSpec]:
        """A diagnosis of yes or no for each of the labels, by its name; empty where there are none."""
        found = {}
        for name, of in self.labels.items():
            own: dict[str, Any] = {"column": of[0]} if self.table is not None else {"codes": of}
            found[name] = self.model_copy(update={"labels": {}, **own})
        return found

    @property
    def label_codes(self) -> Names:
        """Patterns of the codes that the answer is read from."""
        return self.codes or tuple(
            code for of in self.labels.values() for code in of if self.node is not None
        )

    @property
    def label_columns(self) -> Names:
        """Columns that the answer is read from."""
        if self.column is not None:
            return (self.column,)
        return tuple(column for of in self.labels.values() for column in of if self.table is not None)

    @property
    def answers(self) -> tuple[str, ...]:
        """The classes, or the labels."""
        return tuple(self.labels) or self.class_names

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

    def answer_columns(self, patient: PatientSpec, table: str | None = None) -> set[str]:
        """The columns that hold the answer.

        Parameters
        ----------
        patient : PatientSpec
            `[patient]` of the same spec.
        table : str, optional
            Only those of this file; default: of whichever table.

        Returns
        -------
        set of str
        """
        own = [*self.label_columns, self.known]
        found = [*((self.table, column) for column in own), (patient.table, patient.exit)]
        return {column for of, column in found if isinstance(column, str) and table in (None, of)}

    def answer_words(self, patient: PatientSpec) -> dict[str, tuple[Words, ...]]:
        """The words that `where` of [patient] must fit, by column of the patient table that holds the answer.

        All words of one of the forms must fit. A column without a form may not choose patients at all, since
        who has a date there has the event.

        Parameters
        ----------
        patient : PatientSpec
            `[patient]` of the same spec.

        Returns
        -------
        dict of str to tuple of forms
        """
        if not self.label_columns or self.table != patient.table:
            return {}
        known = {self.known: _ANY_DAY} if self.known else {}
        words = (tuple(self.classes),) if self.classes else _NO_AND_YES
        return known | dict.fromkeys(self.label_columns, words)


class WorseSpec(Record):
    """When a value counts as worse than the last one known at the landmark."""

    times: float | None = Field(
        default=None, gt=0, description="value >= times * last value; below 1: value <= times * last value"
    )
    plus: float | None = Field(
        default=None, description="value >= last value + plus; below 0: value <= last value + plus"
    )
    reaches: float | None = Field(
        default=None, description="value >= reaches, where the last value is below it"
    )

    @model_validator(mode="after")
    def _one(self) -> WorseSpec:
        rules = [v for v in (self.times, self.plus, self.reaches) if v is not None]
        if len(rules) != 1 or self.times == 1 or self.plus == 0:
            raise InputError("worse needs one of times (not 1), plus (not 0) and reaches")
        return self


class ProgressionSpec(BaseOutcomeSpec):
    """The course of a value: its level, its change, or the time until it is worse."""

    kind: Literal["progression"] = Field(description="progression: the course of a value")
    node: str = Field(description="node type with the value")
    codes: Names = Field(description="codes of that node type whose value is forecast", min_length=1)
    target: Literal["value", "change", "worse"] = Field(
        default="value",
        description="the value at the time forecast for, its change since the landmark, or the time until it "
        "is worse",
    )
    worse: WorseSpec | None = Field(default=None, description='what counts as worse; sets target = "worse"')
    window: str = Field(
        default="90d",
        description="value and change: how far from the time forecast for a measurement may lie",
    )
    horizon: str | None = Field(default=None, description="worse: how far ahead it is forecast")
    gone: str | None = Field(
        default=None, description="survival outcome whose events end it, as a competing event"
    )

    @model_validator(mode="before")
    @classmethod
    def _implied(cls, raw: Any) -> Any:
        return {"target": "worse"} | raw if isinstance(raw, dict) and "worse" in raw else raw

    @model_validator(mode="after")
    def _whole(self) -> ProgressionSpec:
        if (self.target == "worse") != (self.worse is not None):
            raise InputError('target = "worse" and worse = { times | plus | reaches } belong together')
        if (self.target == "worse") != (self.horizon is not None):
            raise InputError(
                'target = "worse" needs horizon = DURATION; value and change take window instead'
            )
        for name in ("window", "horizon"):
            if (text := getattr(self, name)) is not None and seconds(text) <= 0:
                raise InputError(f"{name} = {text!r}; it must be > 0")
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
