"""What a cohort's tables mean: `graphs/<cohort>.toml` read into frozen records with closed keys."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from gnnpatient.errors import InputError, near
from gnnpatient.files import is_device, is_name
from gnnpatient.spec.explain import explain
from gnnpatient.spec.nodes import NodeSpec
from gnnpatient.spec.outcomes import NOBODY, DiagnosisSpec, OutcomeSpec, ProgressionSpec, SurvivalSpec
from gnnpatient.spec.patterns import fitting
from gnnpatient.spec.tables import (
    HierarchySpec,
    Moment,
    PatientSpec,
    PickSpec,
    Record,
    TableSpec,
    TimepointSpec,
    UnitSpec,
)
from gnnpatient.times import seconds

EdgeType = tuple[str, str, str]
RESERVED = ("patient", "timepoint")
LONGEST, LONGEST_TEXT = 64, 200  # letters of the name of a kind or an outcome; of a cause or a class


LARGEST = 4 << 20  # bytes of a TOML
DOTS = 200  # in one name, which takes time by their square
_PARTED = re.compile(r"[=,#{}\[\]]")
DEEPEST = 12  # lists and tables inside one another; a spec takes 5


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
