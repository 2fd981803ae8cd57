"""What a cohort's tables mean: `graphs/<cohort>.toml` read into frozen records with closed keys."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from gnnpatient.errors import InputError, near
from gnnpatient.files import is_device, is_name
from gnnpatient.spec.explain import explain
from gnnpatient.spec.nodes import NodeSpec
from gnnpatient.spec.outcomes import OutcomeSpec
from gnnpatient.spec.patterns import fitting
from gnnpatient.spec.tables import (
    HierarchySpec,
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
MAX_NAME_LETTERS = 64  # of a node type or an outcome
MAX_ANSWER_LETTERS = 200  # of a cause or a class


MAX_BYTES = 4 << 20  # of a TOML
MAX_DOTS = 200  # in one name, which takes time by their square
_PARTED = re.compile(r"[=,#{}\[\]]")
MAX_DEPTH = 12  # lists and tables inside one another; a spec takes 5


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
        for place, names in (("nodes", self.nodes), ("outcomes", self.outcomes)):
            _check_file_names(place, names)
        for name, outcome in self.outcomes.items():
            for answer in outcome.answers:
                if not is_name(answer) or len(answer) > MAX_ANSWER_LETTERS:
                    raise InputError(
                        f"outcomes.{name}.{outcome.answers_key}: {answer[:MAX_NAME_LETTERS]!r} is no name; "
                        f"one line without / and \\ would do, of at most {MAX_ANSWER_LETTERS} letters"
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
                if moment.node is None and self.format is None:
                    raise InputError(f"{place}: codes of what? add node = KIND")
        entry, origin = self.patient.entry, self.patient.origin
        if isinstance(entry, PickSpec) and entry.pick == "last":
            raise InputError(
                'patient.entry: pick = "last" lets a later event take a patient out of an earlier ask; '
                'pick = "first" would do'
            )
        if isinstance(origin, PickSpec) and origin.node is not None:
            raise InputError("patient.origin: day 0 comes from a column, or from the codes of a format")
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
        survival = [name for name, other in self.outcomes.items() if other.kind == "survival"]
        _check_known(f"{place}.gone", outcome.ended_by, (*survival, *outcome.ended_by_words))

    @model_validator(mode="after")
    def _no_answer_among_the_inputs(self) -> GraphSpec:
        self._check_columns_of_people()
        for name, outcome in self.outcomes.items():
            self._check_inputs_against(name, outcome)
        return self

    def _check_columns_of_people(self) -> None:
        """Of a standard format: what came of a person after day 0 is no input and chooses nobody."""
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
        """Columns that hold the answer of an outcome are no input and choose nobody."""
        answer = outcome.answer_columns(self.patient)
        for column, forms in outcome.answer_words(self.patient).items():
            fit = self.patient.where.get(column)
            if fit and not any(all(fitting(words, fit)) for words in forms):
                raise InputError(
                    f"patient: where chooses by column {column!r}, a part of outcome {name!r}; who is a "
                    "patient must not depend on what came of them"
                )
        if leak := set(self.patient.columns) & (answer | outcome.columns_apart(self.patient)):
            raise InputError(
                f"patient: static column {sorted(leak)[0]!r} is part of outcome {name!r}; "
                "an input that holds the answer is refused"
            )
        for kind, node in self.nodes.items():
            if node.table in outcome.tables and (leak := node.read & answer):
                raise InputError(
                    f"nodes.{kind}: column {sorted(leak)[0]!r} is part of outcome {name!r}; "
                    "an input that holds the answer is refused"
                )

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
        patient = self.patient
        found: list[Any] = [self.table(table).key or patient.key]
        if patient.table == table:
            found += [
                *patient.columns,
                *patient.where,
                patient.group,
                patient.known,
                patient.origin,
                patient.entry,
                patient.exit,
            ]
        for node in self.nodes.values():
            if node.table == table:
                found += [node.time, node.known, node.until, node.code, node.value, node.unit, node.file]
                found += [node.text, node.study, node.row, node.amends, *node.where]
            if node.measures is not None and self.nodes[node.measures].table == table:
                found.append(node.region)
        for outcome in self.outcomes.values():
            if table in outcome.tables:
                found += outcome.answer_columns(patient)
                found += [name for _, part in outcome.parts for name in (part.time, *part.where)]
        return {name for name in found if isinstance(name, str)}

    @property
    def zone(self) -> str | None:
        """Of the days that an ask names: the time zone of the tables; of several, the patient table's.

        None: UTC.
        """
        zones = {table.time.timezone for table in self.tables.values()} - {None}
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
        names = {name: outcome.answers for name, outcome in self.outcomes.items()}
        order = {"nodes": list(self.nodes), "causes": names}
        return hashlib.sha256(json.dumps([meaning, order], sort_keys=True).encode()).hexdigest()


def _check_file_names(place: str, names: Iterable[str]) -> None:
    """Names of node types and outcomes are names of files, too."""
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
                f"{place}.{shown}: call it otherwise; letters, digits, _ and -, not {' or '.join(RESERVED)}"
            )


def _check_source_of_nodes(name: str, node: NodeSpec) -> None:
    """What nodes that are read from a table need, unless a standard format has it."""
    if node.table is None:
        raise InputError(f"nodes.{name}.table: this key is needed")
    if node.time is None and node.untimed == "refuse":
        raise InputError(f'nodes.{name}.time: this key is needed; untimed = "origin" does without (day 0)')
    if node.code is None and node.columns is None and node.content is None:
        raise InputError(
            f"nodes.{name}: a node needs either code = COLUMN (long table) or columns = {{...}} (wide table)"
        )


def _check_known(place: str, name: str | None, known: Iterable[str]) -> None:
    if name is not None and name not in (known := tuple(known)):
        raise InputError(f"{place}: {name!r} is not there{near(name, known) if known else ''}")


_KNOWN_LATER = {  # columns of `people` about the time after day 0
    "fhir": ("death", "deceased", "last"),
    "meds": ("death", "last"),
    "omop": ("death", "observation_end", "last"),
}


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
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size >> 20} MB; a spec is a page of text")
        text = path.read_text(encoding="utf-8")
        if any(part.count(".") > MAX_DOTS for line in text.splitlines() for part in _PARTED.split(line)):
            raise InputError(
                f"{path}: a name of more than {MAX_DOTS} names with dots between"
            )  # read for minutes
        raw = tomllib.loads(text)
        if _depth(raw) > MAX_DEPTH:
            raise InputError(f"{path}: lists or tables inside one another, more than {MAX_DEPTH} deep")
        return GraphSpec.model_validate(raw)
    except RecursionError:
        raise InputError(f"{path}: lists or tables inside one another, far too deep") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: {error}") from None
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, GraphSpec)}") from None


def _depth(raw: Any) -> int:
    """How deep the lists and tables of a TOML lie inside one another; one beyond `MAX_DEPTH` is enough."""
    level, depth = [raw], 0
    while level and depth <= MAX_DEPTH:
        inner = [list(part.values()) if isinstance(part, dict) else part for part in level]
        level = [one for part in inner for one in part if isinstance(one, dict | list)]
        depth += 1
    return depth
