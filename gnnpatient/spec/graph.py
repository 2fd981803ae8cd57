"""What a cohort's tables mean: `graphs/<cohort>.toml` read into frozen records with closed keys."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from gnnpatient.errors import InputError, near
from gnnpatient.files import is_device, is_name
from gnnpatient.show import Shown, Summary, listed
from gnnpatient.spec.explain import explain
from gnnpatient.spec.lineage import Cell, check_joins, home, made_of, roots
from gnnpatient.spec.nodes import NodeSpec
from gnnpatient.spec.outcomes import OutcomeSpec
from gnnpatient.spec.patterns import fitting
from gnnpatient.spec.tables import (
    HierarchySpec,
    Names,
    PatientSpec,
    PickSpec,
    Record,
    TableSpec,
    TimepointSpec,
    UnitSpec,
)
from gnnpatient.times import seconds

EdgeType = tuple[str, str, str]
"""Source node type, relation, target node type."""
RESERVED = ("patient", "timepoint")
Format = Literal["meds", "omop", "fhir"]
"""The data formats, each with a reader of its name. A new one is a word here."""
FORMATS = get_args(Format)
FORMATS_WITH_ENDS = ("omop", "fhir")
SHIPPED = Path(__file__).parent.parent / "specs"
CHECKOUT = Path(__file__).parent.parent.parent / "graphs"

MAX_NAME_LETTERS = 64  # of a node type or an outcome
MAX_ANSWER_LETTERS = 200  # of a cause or a class
MAX_BYTES = 4 << 20  # of a TOML
# The parser's time grows with the square of the dots in one key: thousands take minutes.
MAX_DOTS = 200
_KEY_ENDS = re.compile(r"[=,#{}\[\]]")
MAX_SHOWN_OUTCOMES = 3  # with a line of their own in a repr
MAX_DEPTH = 12  # lists and tables inside one another; a spec takes 5


class GraphSpec(Shown, Record):
    """What the tables of one cohort mean."""

    cohort: str = Field(description="name of the cohort; models and figures carry it")
    source: str = Field(default="", description="where the tables come from, licence, citation")
    format: Format | None = Field(
        default=None, description="the whole folder is in a standard format: meds, omop or fhir"
    )
    tables: dict[str, TableSpec] = Field(
        default={}, description="how single files are read, by file; only where the defaults do not fit"
    )
    patient: PatientSpec = Field(
        default=PatientSpec(), description="who the patients are, their statics, and when they are observed"
    )
    timepoints: TimepointSpec = Field(
        default=TimepointSpec(), description="how rows are gathered in time, as in days or visits"
    )
    units: dict[str, UnitSpec] = Field(
        default={}, description="units of codes; a name may be a pattern, in which * stands for any text"
    )
    hierarchies: dict[str, HierarchySpec] = Field(
        default={}, description="which codes are special cases of which, by name of the hierarchy"
    )
    nodes: dict[str, NodeSpec] = Field(default={}, description="what becomes nodes, by name of the node type")
    outcomes: dict[str, Annotated[OutcomeSpec, Field(discriminator="kind")]] = Field(
        default={}, description="what is forecast, by name of the outcome"
    )

    @model_validator(mode="after")
    def _names(self) -> GraphSpec:
        for place, names in (("nodes", self.nodes), ("outcomes", self.outcomes)):
            _check_file_names(place, names)
        for name, outcome in self.outcomes.items():
            for answer in outcome.answers:
                if not is_name(answer) or len(answer) > MAX_ANSWER_LETTERS:
                    raise InputError(
                        f"outcomes.{name}.{outcome.answers_key}: {answer[:MAX_NAME_LETTERS]!r} is not a "
                        f"name; write one line without / and \\, of at most {MAX_ANSWER_LETTERS} letters"
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
            if not node.made:
                _check_source_of_nodes(name, node)
        for name, outcome in self.outcomes.items():
            for cause in outcome.causes_without_source:
                raise InputError(f"outcomes.{name}.causes.{cause}: needs table and time, or node and codes")
        return self

    @model_validator(mode="after")
    def _references(self) -> GraphSpec:
        for name, node in self.nodes.items():
            self._check_references_of_nodes(name, node)
        for name, outcome in self.outcomes.items():
            self._check_references_of_outcome(f"outcomes.{name}", outcome)
        moments = {f"patient.{name}": getattr(self.patient, name) for name in ("origin", "entry", "exit")}
        moments |= {f"outcomes.{name}.exit": o.end_of_observation for name, o in self.outcomes.items()}
        for place, moment in moments.items():
            if isinstance(moment, PickSpec):
                _check_known(f"{place}.node", moment.node, self.nodes)
                if moment.table is None and moment.node is None and self.format is None:
                    raise InputError(
                        f"{place}: code needs node = NAME, the node type with these codes; or pick from a "
                        "table: { table = FILE, column = COLUMN, where = {...} }"
                    )
        entry, origin = self.patient.entry, self.patient.origin
        if isinstance(entry, PickSpec) and entry.pick == "last":
            raise InputError(
                'patient.entry: pick = "last" would let a later event remove a patient from an earlier '
                'landmark; write pick = "first"'
            )
        if isinstance(origin, PickSpec) and origin.node is not None:
            if self.format is not None:
                raise InputError(
                    "patient.origin: remove node; day 0 of a format comes from a column, or from codes"
                )
            node = self.nodes[origin.node]
            if node.table is None or node.time is None or node.code is None:
                raise InputError(
                    f"patient.origin: nodes.{origin.node} has no table with a column time and a column code; "
                    'write origin = { table = FILE, column = COLUMN, where = {...}, pick = "first" }'
                )
        return self

    def _check_references_of_nodes(self, name: str, node: NodeSpec) -> None:
        _check_known(f"nodes.{name}.hierarchy", node.hierarchy, self.hierarchies)
        images = [n for n, o in self.nodes.items() if o.file is not None and o.table is not None]
        _check_known(f"nodes.{name}.measures", node.measures, images)
        for link in node.links:
            _check_known(f"nodes.{name}.edges", link.kind, [n for n, o in self.nodes.items() if o.study])
        _check_known(f"nodes.{name}.of", node.of, [n for n, o in self.nodes.items() if not o.made])

    def _check_references_of_outcome(self, place: str, outcome: OutcomeSpec) -> None:
        for key, name in outcome.node_names:
            _check_known(f"{place}.{key}", name, self.nodes)
        if (only := outcome.needs_format) and self.format is None:
            raise InputError(f"{place}.{only}: needs the events of a format ({', '.join(FORMATS)})")
        survival = [
            name
            for name, other in self.outcomes.items()
            if other.kind == "survival" and not (other.recurrent or other.states)
        ]
        _check_known(f"{place}.gone", outcome.ended_by, (*survival, *outcome.ended_by_words))

    @model_validator(mode="after")
    def _joins(self) -> GraphSpec:
        check_joins(self.tables, has_format=self.format is not None)
        return self

    @model_validator(mode="after")
    def _no_answer_among_the_inputs(self) -> GraphSpec:
        self._check_columns_of_people()
        for name, outcome in self.outcomes.items():
            self._check_inputs_against(name, outcome)
            self._check_picks_against(name, outcome)
            if any(table.join for table in self.tables.values()):
                self._check_joins_against(name, outcome)
        return self

    def _check_columns_of_people(self) -> None:
        """Refuse columns of a format about the time after day 0 as inputs and as a choice of patients."""
        later = {
            f"{name}{bare}" for name in _KNOWN_LATER.get(self.format or "", ()) for bare in ("", "_bare")
        }
        if self.patient.table in (None, "people") and (leak := set(self.patient.columns) & later):
            raise InputError(
                f"patient: static column {sorted(leak)[0]!r} says what came of a person later; an input that "
                "holds the answer is refused"
            )
        if self.patient.table in (None, "people") and (leak := set(self.patient.where) & later):
            raise InputError(
                f"patient: where chooses by column {sorted(leak)[0]!r}; it says what came of a person later; "
                "who is a patient must not depend on it"
            )
        for name, node in self.nodes.items():
            if node.table == "people" and (leak := node.read & later):
                raise InputError(
                    f"nodes.{name}: column {sorted(leak)[0]!r} says what came of a person later; an input "
                    "that holds the answer is refused"
                )

    def _check_inputs_against(self, name: str, outcome: OutcomeSpec) -> None:
        """Columns that hold the answer of an outcome may be neither inputs nor select patients."""
        answer = outcome.answer_columns(self.patient)
        for column, forms in outcome.answer_words(self.patient).items():
            fit = self.patient.where.get(column)
            if fit and not any(all(fitting(words, fit)) for words in forms):
                raise InputError(
                    f"patient: where chooses by column {column!r}, a part of outcome {name!r}; who is a "
                    "patient must not depend on what came of them"
                )
        inputs = {*self.patient.columns, *self.patient.birth_columns}
        if leak := inputs & (answer | outcome.columns_apart(self.patient)):
            raise InputError(
                f"patient: static column {sorted(leak)[0]!r} is part of outcome {name!r}; "
                "an input that holds the answer is refused"
            )
        for kind, node in self.nodes.items():
            columns = node.read | set(node.where)
            if node.table in outcome.tables:
                leak = columns & (answer - outcome.shown_when_it_happens(node))
                if leak:
                    raise InputError(
                        f"nodes.{kind}: column {(column := sorted(leak)[0])!r} is part of outcome {name!r}; "
                        f"an input that holds the answer is refused{_as_an_event(outcome, column)}"
                    )
            for rows in outcome.rows_of_events(self.patient):
                # a row that is known when it happens may say what it is; an earlier one would say what comes
                early = node.table == rows.table and rows.time not in (node.time, node.known)
                if early and (leak := columns & rows.columns):
                    raise InputError(
                        f"nodes.{kind}: column {sorted(leak)[0]!r} is part of outcome {name!r}, whose rows "
                        f'are known at {rows.time!r}: set time = "{rows.time}" in this node (and where, for '
                        "the events alone), or leave it out; an input that holds the answer is refused"
                    )

    def _check_picks_against(self, name: str, outcome: OutcomeSpec) -> None:
        """What begins or ends observation may not be chosen by what came of a patient."""
        patient = self.patient
        moments = {f"patient.{key}": getattr(patient, key) for key in ("origin", "entry", "exit")}
        moments |= {f"outcomes.{other}.exit": o.end_of_observation for other, o in self.outcomes.items()}
        events = [rows for rows in outcome.rows_of_events(patient) if not rows.is_end]
        answer = {
            home(self.tables, (table, column))
            for table in {patient.table or "people", *outcome.tables}
            for column in outcome.answer_columns(patient, table)
            # from when on somebody is followed is no answer
            if outcome.stretches is None or (table, column) != outcome.stretches[:2]
        }
        for place, moment in moments.items():
            if not isinstance(moment, PickSpec) or (found := self._picked_rows(moment)) is None:
                continue
            table, column, where = found
            begins = not place.endswith("exit")
            for by in sorted({column, *where} if begins else where):
                if made_of(self.tables, (table, by)) & answer:
                    raise InputError(
                        f"{place}: picks by column {by!r}, a part of outcome {name!r}; when observation "
                        "begins or ends must not depend on what came of a patient"
                    )
            itself = any(
                (rows.table, rows.time) == (table, column) and _all_among(where, rows.where)
                for rows in events
            )
            itself |= any(
                part.node is not None and part.node == moment.node and all(fitting(moment.code, part.codes))
                for _, part in outcome.parts
            )
            if begins and itself:
                raise InputError(
                    f"{place}: picks the events of outcome {name!r} themselves; day 0 and entry come before "
                    "them: pick other rows"
                )

    def _picked_rows(self, pick: PickSpec) -> tuple[str, str, Mapping[str, Names]] | None:
        """The table, the column of times and the choice of rows of a pick; None where a format has them."""
        if pick.table is not None and pick.column is not None:
            return pick.table, pick.column, pick.where
        node = None if pick.node is None else self.nodes[pick.node]
        if node is None or node.table is None or node.time is None or node.code is None:
            return None
        return node.table, node.time, {**node.where, node.code: pick.code}

    def _check_joins_against(self, name: str, outcome: OutcomeSpec) -> None:
        """The same through joins: what an outcome reads under one name is no input under another."""
        patient, people = self.patient, self.patient.table or "people"
        answer, apart, keys = set[Cell](), set[Cell](), set[Cell]()
        forms = dict[Cell, list[tuple[tuple[str, ...], ...]]]()
        tables = {people, *outcome.tables, *(rows.table for rows in outcome.rows_of_events(patient))}
        for table in sorted(tables):
            inside = patient.model_copy(update={"table": table})  # as if this were the table of the patients
            answers = outcome.answer_columns(patient, table)
            answer |= {home(self.tables, (table, c)) for c in answers}
            apart |= {home(self.tables, (table, c)) for c in outcome.columns_apart(inside)}
            # an end by site or by protocol may be looked up by what is an input
            looked_up = [c for c in answers if c not in (outcome.end_of_observation, patient.exit)]
            keys |= {key for c in looked_up for key in roots(self.tables, (table, c)) - {(table, c)}}
            for column, words in outcome.answer_words(inside).items():
                forms.setdefault(home(self.tables, (table, column)), []).append(words)
        for column in (*patient.columns, *patient.birth_columns):
            cell = (people, column)
            if leak := made_of(self.tables, cell) & (answer | apart) or {cell} & keys:
                raise InputError(
                    f"patient: static column {column!r} is by a join {_cell(leak)}, a part of outcome "
                    f"{name!r}; an input that holds the answer is refused"
                )
        for column, patterns in patient.where.items():
            at, leak = home(self.tables, (people, column)), made_of(self.tables, (people, column)) & {*forms}
            fits = [any(all(fitting(words, patterns)) for words in one) for one in forms.get(at, [])]
            if leak and not (leak == {at} and all(fits)):
                raise InputError(
                    f"patient: where chooses by column {column!r}, by a join {_cell(leak)}, a part of "
                    f"outcome {name!r}; who is a patient must not depend on what came of them"
                )
        for kind, node in self.nodes.items():
            if node.table is None:
                continue
            held = answer | self._events_seen_early(outcome, node, node.table)
            for column in sorted((node.read | set(node.where)) - outcome.shown_when_it_happens(node)):
                cell = (node.table, column)
                of_answer = made_of(self.tables, cell) & (held - {cell} if node.table == people else held)
                if leak := of_answer or {cell} & keys:
                    raise InputError(
                        f"nodes.{kind}: column {column!r} is by a join {_cell(leak)}, a part of outcome "
                        f"{name!r}; an input that holds the answer is refused"
                    )

    def _events_seen_early(self, outcome: OutcomeSpec, node: NodeSpec, table: str) -> set[Cell]:
        """What rows of events say, by own columns of their tables, but where the node has their time."""
        times = {home(self.tables, (table, name)) for name in (node.time, node.known) if name is not None}
        early = [
            rows
            for rows in outcome.rows_of_events(self.patient)
            if home(self.tables, (rows.table, rows.time)) not in times
        ]
        said = {(rows.table, column) for rows in early for column in rows.columns}
        return {root for cell in said for root in roots(self.tables, cell)}

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """Every edge type of every graph of this cohort, each followed by its reverse.

        Those that are read off the columns are there for every node type: at (its timepoint), next (the next
        moment), same (the next moment of its series: its code, of one object where rows are tracked), first
        (from the beginning of its series), and during (from an interval that was running).
        """
        pairs = [
            (kind, relation, "timepoint" if relation == "at" else kind)
            for kind in self.nodes
            for relation in ("at", "next", "same", "first")
        ]
        pairs += [(interval, "during", kind) for interval in self.interval_types for kind in self.nodes]
        pairs += [(kind, link.rule, link.kind) for kind, node in self.nodes.items() for link in node.links]
        pairs += [(kind, "measures", node.measures) for kind, node in self.nodes.items() if node.measures]
        pairs += [(node.of, "is_a", kind) for kind, node in self.nodes.items() if node.of is not None]
        pairs += [("timepoint", "of", "patient"), ("timepoint", "next", "timepoint")]
        return tuple(e for s, rule, t in pairs for e in ((s, rule, t), (t, f"rev_{rule}", s)))

    @property
    def interval_types(self) -> tuple[str, ...]:
        """The node types whose rows may have an end: by `until`, or since their format has ends."""
        from_format = self.format in FORMATS_WITH_ENDS
        return tuple(
            kind
            for kind, node in self.nodes.items()
            if node.until is not None or (from_format and not node.made and node.table != "people")
        )

    @property
    def every(self) -> int:
        """Width of a timepoint in seconds."""
        return seconds(self.timepoints.every)

    def unit(self, code: str) -> UnitSpec | None:
        """The unit that a code is kept in: by its name, else by the first pattern that it fits.

        Parameters
        ----------
        code : str
            A code of any node type.

        Returns
        -------
        UnitSpec or None
            None where [units] has neither the code nor a pattern for it.
        """
        if code in self.units:
            return self.units[code]
        fits = (pattern for pattern in self.units if "*" in pattern and fitting([code], [pattern])[0])
        return self.units.get(next(fits, ""))

    def used_columns(self, table: str) -> set[str]:
        """Columns of a table that the spec uses otherwise: ids, times, statics, answers.

        A pattern among the columns of a wide table does not stand for them.

        Parameters
        ----------
        table : str
            Name of a file, as in the spec.

        Returns
        -------
        set of str
        """
        used = self._used_in(table)
        joins = [(other, join) for other, spec in self.tables.items() for join in spec.join]
        if not joins:
            return used
        for other, join in joins:
            used |= set(join.by) if other == table else set()
            used |= set(join.by.values()) if join.table == table else set()
        tables = {table, *(name for other, join in joins for name in (other, join.table))}
        homes = {home(self.tables, (name, column)) for name in tables for column in self._used_in(name)}
        for other, join in joins:
            pairs = join.columns.items()
            if other == table:
                used |= {new for new, _ in pairs if home(self.tables, (table, new)) in homes}
            if join.table == table:
                used |= {old for _, old in pairs if home(self.tables, (table, old)) in homes}
        return used

    def _used_in(self, table: str) -> set[str]:
        """The same without what joins say of it."""
        patient = self.patient
        found: list[Any] = [self.table(table).key or patient.key]
        if patient.table == table:
            found += [
                *patient.columns,
                *patient.birth_columns,
                *patient.where,
                patient.group,
                patient.known,
                patient.origin,
                patient.entry,
                patient.exit,
            ]
        ends = [outcome.end_of_observation for outcome in self.outcomes.values()]
        for moment in (patient.origin, patient.entry, patient.exit, *ends):
            if isinstance(moment, PickSpec) and moment.table == table:
                found += [moment.column, *moment.where]
        for node in self.nodes.values():
            if node.table == table:
                found += [node.time, node.known, node.until, node.code, node.value, node.unit, node.file]
                found += [node.text, node.study, node.track, node.row, node.amends, *node.where]
            if node.measures is not None and self.nodes[node.measures].table == table:
                found.append(node.region)
        for outcome in self.outcomes.values():
            if table in outcome.tables:
                found += outcome.answer_columns(patient)
                found += [name for _, part in outcome.parts for name in (part.time, *part.where)]
        return {name for name in found if isinstance(name, str)}

    @property
    def zone(self) -> str | None:
        """Time zone of a date given as a landmark; None means UTC.

        It is the time zone of the tables; where they have several, that of the patient table.
        """
        zones = {table.time.timezone for table in self.tables.values()} - {None}
        return zones.pop() if len(zones) == 1 else self.table(self.patient.table or "people").time.timezone

    def table(self, name: str) -> TableSpec:
        """How a table is read.

        Parameters
        ----------
        name : str
            Name of a file, as in the spec.

        Returns
        -------
        TableSpec
            The defaults where [tables] does not name the file.
        """
        return self.tables.get(name, TableSpec())

    def to_json(self) -> str:
        """The spec as JSON, without the keys that have their default.

        Returns
        -------
        str
            What `from_json` reads.
        """
        return self.model_dump_json(exclude_defaults=True, by_alias=True)

    @classmethod
    def from_json(cls, text: str) -> GraphSpec:
        """A spec from the JSON that `to_json` wrote.

        Parameters
        ----------
        text : str
            A JSON object.

        Returns
        -------
        GraphSpec
        """
        return cls.model_validate_json(text)

    def _summary(self) -> Summary:
        patient = self.patient.table if self.format is None else f"a folder of {self.format}"
        facts = [("patients", f"{patient}, key {self.patient.key}")]
        nodes = [f"{kind} ({node.table})" if node.table else kind for kind, node in self.nodes.items()]
        facts.append(("nodes", listed(nodes)))
        outcomes = [
            (name, f"{outcome.kind} of {listed(outcome.answers)}" if outcome.answers else outcome.kind)
            for name, outcome in self.outcomes.items()
        ]
        if len(outcomes) > MAX_SHOWN_OUTCOMES:
            outcomes = [("outcomes", listed([name for name, _ in outcomes]))]
        return Summary(f"GraphSpec {self.cohort}", [*facts, *outcomes])

    @property
    def hash(self) -> str:
        """Digest (sha256) of the meaning; comments, `source` and the order of keys do not change it.

        The order of the node types, and of the causes or classes of an outcome, does.
        """
        meaning = json.loads(self.to_json()) | {"source": ""}
        names = {name: outcome.answers for name, outcome in self.outcomes.items()}
        order = {"nodes": list(self.nodes), "causes": names}
        return hashlib.sha256(json.dumps([meaning, order], sort_keys=True).encode()).hexdigest()


def _as_an_event(outcome: OutcomeSpec, column: str) -> str:
    """For a message: how the flag of an event with a time of its own may be a node, where it is one."""
    for _, part in outcome.parts:
        if column == part.flag and part.time is not None:
            where = f'{{ "{column}" = "1" }}'
            return f'; an event may be one from its own time on: time = "{part.time}", where = {where}'
    return ""


def _all_among(where: Mapping[str, Names], events: Mapping[str, Names]) -> bool:
    """Whether all rows that one choice takes are rows that the other takes, too."""
    return all(name in where and all(fitting(where[name], words)) for name, words in events.items())


def _check_file_names(place: str, names: Iterable[str]) -> None:
    """Refuse names of node types and outcomes that cannot be names of files on every system."""
    alike: dict[str, str] = {}
    for name in names:
        if len(name) > MAX_NAME_LETTERS or is_device(name):
            raise InputError(
                f"{place}.{name[:MAX_NAME_LETTERS]}: files are named by it; at most {MAX_NAME_LETTERS} "
                "letters, and no name that Windows keeps for a device"
            )
        if (other := alike.setdefault(name.casefold(), name)) != name:
            raise InputError(
                f"{place}.{name}: equal to {other!r} but for case; some disks cannot tell their files"
            )
        if name in RESERVED or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
            shown = name if name.isprintable() else repr(name)[1:-1]
            raise InputError(
                f"{place}.{shown}: choose another name, of letters, digits, _ and -, and not "
                f"{' or '.join(RESERVED)}"
            )


def _check_source_of_nodes(name: str, node: NodeSpec) -> None:
    """Refuse nodes without the keys that only a standard format makes needless."""
    if node.table is None:
        raise InputError(f"nodes.{name}.table: this key is needed")
    if node.time is None and node.untimed == "refuse":
        raise InputError(f'nodes.{name}.time: this key is needed; untimed = "origin" does without (day 0)')
    if node.code is None and node.columns is None and node.content is None:
        raise InputError(
            f"nodes.{name}: a node needs either code = COLUMN (long table) or columns = {{...}} (wide table)"
        )


def _cell(cells: Iterable[Cell]) -> str:
    """A table and a column, for a message."""
    table, column = min(cells)
    return f"{table} ({column!r})"


def _check_known(place: str, name: str | None, known: Iterable[str]) -> None:
    if name is not None and name not in (known := tuple(known)):
        raise InputError(f"{place}: {name!r} cannot be used here{near(name, known) if known else ''}")


_KNOWN_LATER = {  # columns of `people` about the time after day 0
    "fhir": ("death", "deceased", "last"),
    "meds": ("death", "last"),
    "omop": ("death", "observation_end", "last"),
}


def spec_path(name: str | Path) -> Path:
    """The file behind the name of a shipped cohort or a path.

    Parameters
    ----------
    name : str or Path
        ``"pbc"``, or the path of a file.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        When it is neither.
    """
    for folder in (SHIPPED, CHECKOUT):
        if (path := folder / f"{name}.toml").is_file() and Path(name).name == str(name):
            return path
    path = Path(name)
    if path.is_dir():
        raise InputError(
            f"spec {str(name)!r} is a folder; the .toml file comes first, as in read_cohort(spec, folder)"
        )
    if not path.is_file():
        shipped = sorted(p.stem for folder in (SHIPPED, CHECKOUT) for p in folder.glob("*.toml"))
        raise InputError(
            f"spec {str(name)!r} is neither a file nor a shipped cohort; shipped: {', '.join(shipped)}"
        )
    return path


def read_spec(spec: str | Path | Mapping[str, Any] | GraphSpec) -> GraphSpec:
    """Read the spec of a cohort.

    Parameters
    ----------
    spec : str, Path or dict
        Path of a .toml file, the name of a shipped cohort, or what `tomllib.loads` makes of a TOML. One that
        has been read already is given back.

    Returns
    -------
    GraphSpec

    Raises
    ------
    InputError
        When there is no such file, or it is not a valid spec. The message names the key and what to do.

    Examples
    --------
    >>> read_spec("pbc").outcomes["death"].cause_names
    ('transplant', 'death')
    >>> read_spec({"cohort": "mine", "patient": {"table": "patients.csv", "key": "pid"}}).patient.key
    'pid'
    """
    if isinstance(spec, GraphSpec):
        return spec
    if isinstance(spec, Mapping):
        return _validated(dict(spec), "spec")
    if not isinstance(spec, str | Path):
        raise InputError(
            f"spec: {type(spec).__name__} is no spec; give a path, a shipped name or a dictionary"
        )
    if "\n" in str(spec):
        raise InputError(
            "spec: a text of several lines; read_spec(tomllib.loads(text)), or write it as .toml"
        )
    path = spec_path(spec)
    if path.suffix != ".toml":
        raise InputError(f"{path}: a spec is a .toml file; no other format is read")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size >> 20} MB; a spec is a page of text")
        text = path.read_text(encoding="utf-8")
        if any(part.count(".") > MAX_DOTS for line in text.splitlines() for part in _KEY_ENDS.split(line)):
            raise InputError(f"{path}: a key of more than {MAX_DOTS} names with dots between them")
        raw = tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{path}: lists or tables inside one another, far too deep") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: {error}") from None
    return _validated(raw, str(path))


def _validated(raw: dict[str, Any], place: str) -> GraphSpec:
    """The spec of a TOML as it was parsed; place: its name, for messages."""
    if _depth(raw) > MAX_DEPTH:
        raise InputError(f"{place}: lists or tables inside one another, more than {MAX_DEPTH} deep")
    try:
        return GraphSpec.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"{place}: {explain(error, GraphSpec)}") from None


def _depth(raw: Any) -> int:
    """Depth of the lists and tables inside one another, counted up to `MAX_DEPTH` + 1."""
    level, depth = [raw], 0
    while level and depth <= MAX_DEPTH:
        inner = [list(part.values()) if isinstance(part, dict) else part for part in level]
        level = [one for part in inner for one in part if isinstance(one, dict | list)]
        depth += 1
    return depth
