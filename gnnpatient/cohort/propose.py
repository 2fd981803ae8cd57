"""A first draft of a spec from a folder of tables: what was found, why, and what only its owner can say.

Everything here is a guess by names and by numbers, and the draft says so beside each one. Nothing of a
patient is written but codes and states, and words only where at least five patients share them.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.cohort.readers.door import Door
from gnnpatient.cohort.readers.tables import CSV, ids, moment, number, text
from gnnpatient.cohort.spec import DAY, UNITS, TimeSpec
from gnnpatient.errors import Refused

ROWS = 200_000  # of a table that are looked at
FEW = 5  # patients who must share a word before the draft holds it
WORDS = 20  # most words of a category
WIDE = 1000  # a table with more columns is not looked at
TELLING = 0.95  # rank AUC for an outcome from which on a column is taken to know it
WHO = "\0who"  # the patient of a row, beside columns of any name

# Names are compared in lower case without signs: `Subject ID` is subjectid.
KEYS = [  # of a patient; the better ones first
    *("patientid", "subjectid", "usubjid", "personid", "pid", "id", "patient", "subject", "randid", "patnr"),
    *("ptid", "mrn", "patientunitstayid", "icustayid", "stayid", "hadmid", "admissionid", "encounterid"),
    *("caseid", "sno", "nr"),
]
PERSON = re.compile(r"^(num|fac)?(age|ageyears|agey|sex|gender|race|ethnicity)$")
GROUP = re.compile(r"^(unique|person|people|famil|household|match|pair|set|case)")
SITE = re.compile(r"(hospital|center|centre|site|clinic|institution|ward)(id|name|code|no|nr)?$")
NOMINAL = re.compile(r"sex|gender|race|ethnic|center|centre|site|arm$|^trt|treat|group|type$")
COUNTER = re.compile(r"^(period|visit|visitno|visitnum|visitnumber|exam|wave|seq|enum)$")
ENTRY = re.compile(r"^entry|entrytime$")

FOLLOWED = re.compile(r"time|offset|tte$|follow|^(days|weeks|months|years)$|surv.*(day|week|month|year)")
BEGINS = re.compile(r"start|diag|onset|admi|birth|entry|^age|random|enrol|baseline|index|surg|intime|inclu")
TOKENS = re.compile(
    r"follow(up)?|time(to)?|offset|tte$|dur(ation)?|^fu|(day|week|month|year)s?$|^surv(ival)?"
)
FLAG = re.compile(r"status|stat\d*$|event|flag|indicator|label|outcome|endpoint|cens(or(ed|ship|ing)?)?$")
DEATH = re.compile(r"death|dead|died|dth|mort|expired|deceas|^vital$")
HAPPENS = re.compile(FLAG.pattern + "|" + DEATH.pattern + r"|recur|relapse|progress|fail|readmi")
ALIVE = re.compile(r"(?i)^(cens|alive|living|no$|none$|0$|event.?free|withdraw|lost|false$)")
LABEL = re.compile(r"^(label|outcome|target|class|dx|diagnosis)$|" + DEATH.pattern)
DISEASE = re.compile(r"(?i)dement|convert|case|control|malign|cancer|positive|disease|healthy")
AHEAD = re.compile(
    r"^prev|^surv|prg\d|^dnr|discharge|charge|cost|cst$|lengthofstay|^s?los$|hosp.*d(ea|ie)|"
    r"cause|autopsy|lastcontact|lastseen|^aps$|^sps$|" + DEATH.pattern
)
AHEAD_TEXT = re.compile(r"(?i)leak|future|model output|hindsight")
TELLS_DEATH = r"(?i)death|died|dead\b|deceas|expired|hospice"
DEATH_ITSELF = r"^(MEDS_DEATH|DEATH)(//|$)"

CLOCK = re.compile(r"time|dat|day|offset|delay|year|month|week|hour|start|stop|end")
WHEN = (  # names of the time of a row, the better ones first
    r"^(time|times|day|days|date|datetime|charttime|timestamp|tstart|start|year|month|week|hour)$",
    r"start|drawn|taken|collect|visit|effective|obs",
    r"(time|date|day|days|offset|delay|dt|dtm)$",
)
KNOWN = re.compile(r"result|report|sign|known|issued|revised|enter|record|stor(e|ed)time|verif")
UNTIL = re.compile(r"stop|end|until|abate|^time2$|discharge|outtime")
CODES = (  # names of the column that says what was measured, the better ones first
    r"^(code|concept|itemid|paramcd|testcd)$",
    r"^(test|analyte|item|parameter|variable|measurement)$|labname$|testname$",
    r"string$|path$",
    r"drugname$|^drug$|medication$",
    r"name$",
    r"^(event|diagnosis|condition|procedure|treatment)$|^icd|code$|dx$",
)
VALUE = re.compile(r"^(val|aval|amount|quantity|reading)$|result$|value$|valuenum$|valueasnumber$")
UNIT = re.compile(r"units?$|uom$|measurename")
MEANS = {  # kind: names of a table or of its column with codes
    "drug": "drug|medic",
    "diagnosis": "diag|dx|icd|condition",
    "treatment": "treat",
    "procedure": "proc",
    "exam": "exam",
}

ALIASES = {
    "sbp": "sysbp systolic systolicbp", "dbp": "diabp diastolic diastolicbp", "map": "meanbp mbp",
    "hr": "heartrate heartrte hrt pulse", "resp": "rr resprate", "temp": "temperature bodytemp",
    "spo2": "o2sat sao2", "weight": "wt bodyweight", "height": "ht", "bmi": "", "glucose": "glu glc",
    "creatinine": "crea creat", "bilirubin": "bili serbilir", "albumin": "alb", "hemoglobin": "hgb hb",
    "platelets": "platelet plt", "wbc": "wblc leukocytes", "sodium": "na sod", "potassium": "k",
    "cholesterol": "chol totchol serchol", "hdl": "hdlc", "ldl": "ldlc", "bun": "urea", "lactate": "lact",
    "ph": "", "alkphos": "alp alkaline", "ast": "sgot", "alt": "sgpt", "crp": "", "protime": "prothrombin pt",
    "calcium": "ca", "hba1c": "a1c",
}  # fmt: skip
VITAL = {"sbp", "dbp", "map", "hr", "resp", "temp", "spo2", "weight", "height", "bmi"}
RANGES: dict[str, dict[str, tuple[float, float]]] = {  # what can be, by unit; outside lies a slip
    "sbp": {"mmhg": (30, 320)},
    "dbp": {"mmhg": (10, 220)},
    "map": {"mmhg": (10, 260)},
    "hr": {"1/min": (0, 350), "bpm": (0, 350)},
    "resp": {"1/min": (0, 120)},
    "temp": {"c": (20, 45), "f": (68, 113)},
    "spo2": {"%": (0, 100)},
    "weight": {"kg": (0.3, 450)},
    "height": {"cm": (20, 260), "m": (0.2, 2.6)},
    "bmi": {"kg/m2": (7, 120)},
    "glucose": {"mg/dl": (5, 2000), "mmol/l": (0.3, 111)},
    "creatinine": {"mg/dl": (0.05, 50), "umol/l": (4, 4500)},
    "bilirubin": {"mg/dl": (0, 90), "umol/l": (0, 1500)},
    "albumin": {"g/dl": (0.3, 8), "g/l": (3, 80)},
    "hemoglobin": {"g/dl": (1, 26), "g/l": (10, 260)},
    "sodium": {"mmol/l": (80, 210), "meq/l": (80, 210)},
    "potassium": {"mmol/l": (0.8, 15), "meq/l": (0.8, 15)},
    "cholesterol": {"mg/dl": (20, 3000), "mmol/l": (0.5, 78)},
    "hdl": {"mg/dl": (2, 250), "mmol/l": (0.05, 6.5)},
    "ldl": {"mg/dl": (2, 1000), "mmol/l": (0.05, 26)},
    "bun": {"mg/dl": (1, 400)},
    "lactate": {"mmol/l": (0, 50)},
}
ANALYTE = {alias: name for name, more in ALIASES.items() for alias in (name, *more.split())}
IN_TEXT = re.compile(
    r"(?<![\w/])(mm ?Hg|mg/dl|g/dl|g/l|mg/l|mmol/l|umol/l|meq/l|kg/m2|U/l|U/ml|fmol/l|kg|cm|bpm|%)(?![\w/])",
    re.IGNORECASE,
)
UNIT_IN_NAME = re.compile(
    r"[(_.\[ ](mm_?hg|mg_?dl|g_?dl|g_?l|mmol_?l|umol_?l|kg_?m2|kg|cm|lbs)[)\]]?$", re.IGNORECASE
)
SPELLED = {  # words for units of time
    "min": "min(?:ute)?s?",
    "h": "h(?:ou)?rs?|hours?",
    "d": "days?",
    "w": "w(?:ee)?ks?",
    "mo": "months?|mos",
    "y": "y(?:ea)?rs?",
}

FAMILIES = {  # kind: beginnings of the codes of a standard format, and its edges
    "lab": (r"LAB|MEASUREMENT|OBSERVATION|VITAL|Blood Pressure|Weight|Height|BMI|SUBJECT_", ["at", "same"]),
    "drug": (r"DRUG|MEDICATION|INFUSION|IMMUNIZATION", ["at"]),
    "diagnosis": (r"DIAGNOSIS|CONDITION|ICD|ALLERGY", ["at"]),
    "procedure": (r"PROCEDURE|HCPCS|CPT|IMAGING|DEVICE|DIAGNOSTICREPORT", ["at"]),
    "stay": (r"VISIT|ENCOUNTER|HOSPITAL|ICU|ED_|TRANSFER|ADMISSION|DISCHARGE", ["at", "next"]),
    "other": ("", ["at"]),
}


def propose(folder: Path) -> str:
    """The text of a TOML that `read_spec` takes, with its reasons and its questions (`# ASK:`) as comments.

    Of a table the first 200 000 rows are looked at. The same folder gives the same text.

    Refused: no folder, no table in it, no column that could be a patient's id.
    """
    if not folder.is_dir():
        raise Refused(f"{folder}: no such folder; name the one with the tables")
    draft = Draft(folder)
    form = _format(folder)
    if form is None:
        _plain(draft)
    else:
        _standard(draft, form)
    return draft.text()


# The text


def _toml(value: Any) -> str:
    """A string, a number, a list or an inline table as TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def plain(name: str) -> str:
    """A name as it is compared.

    >>> plain("Subject ID")
    'subjectid'
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _slug(words: str, fallback: str) -> str:
    """As the name of a kind, a cause or an outcome."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "_", words).strip("_-").lower()[:40]
    slug = slug if re.match(r"[a-z]", slug) else f"{fallback}_{slug}".rstrip("_")
    return f"{slug}_" if slug in ("patient", "timepoint", "censored", "event_free") else slug


@dataclass
class Block:
    """One table of the TOML: what is said above it, and its keys; empty ones are not written."""

    said: list[str] = field(default_factory=list)
    keys: dict[str, Any] = field(default_factory=dict)

    def lines(self, head: str) -> list[str]:
        keys = [f"{_key(k)} = {_toml(v)}" for k, v in self.keys.items() if v not in ("", [], {})]
        return [f"# {line}" for line in self.said] + ([head, *keys, ""] if keys else [])


@dataclass
class Draft:
    """The parts of the draft in the order in which they are written."""

    folder: Path
    said: list[str] = field(default_factory=list)
    form: str = ""
    sheets: list[Sheet] = field(default_factory=list)
    patient: Block = field(default_factory=Block)
    every: str = "1d"
    units: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # code: what is said, its keys
    nodes: dict[str, Block] = field(default_factory=dict)
    outcomes: dict[str, Block] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)  # what is not in it, and why

    @cached_property
    def readme(self) -> str:
        """What stands beside the tables, or up to two folders above them."""
        here = self.folder.resolve()
        for place in (here, here.parent, here.parent.parent):
            for path in sorted(place.glob("[Rr][Ee][Aa][Dd][Mm][Ee]*")):
                if path.is_file():
                    return path.read_text(encoding="utf-8", errors="replace")[:100_000]
        return ""

    def leave(self, where: str, why: Mapping[str, str]) -> None:
        """What is left out of a table, by reason."""
        for reason in dict.fromkeys(why.values()):
            names = ", ".join(name for name, of in why.items() if of == reason)
            self.left.append(f"{where}: {names}: {reason}" if names else f"{where}: {reason}")

    def node(self, kind: str, keys: Mapping[str, Any], *said: str) -> None:
        self.nodes[_free(self.nodes, kind)] = Block(list(said), dict(keys))

    def outcome(self, name: str, ask: str, keys: Mapping[str, Any], *said: str) -> None:
        self.outcomes[name] = Block([*said, f"ASK: outcomes.{name}: {ask}"], dict(keys))

    def text(self) -> str:
        name = self.folder.resolve().name or "cohort"
        lines = [
            "# A draft by gnnpatient init. Read every line; those that begin with ASK are yours to answer."
        ]
        lines += [f"# {line}" for line in self.said]
        lines += ["# ASK: source: where do the tables come from, under which licence?"]
        lines += [f"cohort = {_toml(name)}", *([f"format = {_toml(self.form)}"] if self.form else []), ""]
        for sheet in self.sheets:
            lines += Block(sheet.said, sheet.how).lines(f"[tables.{_key(sheet.name)}]")
        lines += ["", *self.patient.lines("[patient]")]
        lines += Block([], {"every": self.every}).lines("[timepoints]")
        lines += ["[units]"] if self.units else []
        for code, (why, keys) in self.units.items():
            lines += [f"# {why}", *([f"{_key(code)} = {_toml(keys)}"] if keys else [])]
        lines += [""] if self.units else []
        for place, blocks in (("nodes", self.nodes), ("outcomes", self.outcomes)):
            for name, block in blocks.items():
                lines += block.lines(f"[{place}.{name}]")
        if not self.outcomes:
            lines.append("# ASK: outcomes: none was recognised; what is to be predicted? add [outcomes.NAME]")
        lines += ["", "# Left out", *(f"# {line}" for line in dict.fromkeys(self.left))] if self.left else []
        shown = ("".join(c if c.isprintable() else " " for c in line) for line in lines)
        return re.sub(r"\n{3,}", "\n\n", "\n".join(shown)).strip() + "\n"


def _free(names: Iterable[str], wanted: str) -> str:
    """The name, or the name with the first number that makes it free."""
    more = (f"{wanted}{i}" for i in range(2, 10_000))
    return next(name for name in (wanted, *more) if name not in names)


# Tables as they are found


@dataclass
class Sheet:
    """The first rows of a table: as they stand, and as numbers where they are numbers."""

    name: str
    raw: pl.DataFrame
    readme: str
    how: dict[str, Any]  # the keys of [tables.NAME]
    cells: pl.DataFrame = field(
        default_factory=pl.DataFrame
    )  # Float64 (dates: days) or String; null = missing
    kind: dict[str, str] = field(default_factory=dict)  # number date duration text empty, mixed: a few words
    form: dict[str, str] = field(default_factory=dict)  # how dates are written that are not ISO 8601
    unsure: set[str] = field(default_factory=set)  # columns of dates whose day could be the month
    said: list[str] = field(default_factory=list)
    clocked: bool = False  # whether the unit or format of its times is decided
    key: str = ""

    @cached_property
    def who(self) -> pl.Series:
        return ids(self.raw[self.key]).alias(WHO)

    @cached_property
    def keyed(self) -> pl.DataFrame:
        return self.cells.with_columns(self.who).filter(pl.col(WHO).is_not_null())

    @cached_property
    def people(self) -> pl.DataFrame:
        """A row a patient: WHO, and the first value of each column."""
        return self.keyed.group_by(WHO, maintain_order=True).agg(pl.all().drop_nulls().first())

    @cached_property
    def constant(self) -> set[str]:
        """Columns that do not change within a patient, and are not given in some rows only."""
        same = (pl.all().min() == pl.all().max()).fill_null(True)
        alike = self.keyed.group_by(WHO).agg(same).drop(WHO)
        held = self.keyed.group_by(WHO).agg(pl.all().is_not_null().mean()).drop(WHO)
        often = {c: float(held[c].filter(held[c] > 0).mean() or 0) for c in held.columns}  # type: ignore[arg-type]
        return {c for c in alike.columns if alike[c].all() and often[c] >= 0.9} - {self.key}

    @cached_property
    def unique(self) -> bool:
        """Whether a row is a patient."""
        return self.who.n_unique() == len(self.who)

    @cached_property
    def persons(self) -> list[str]:
        """Columns that say who somebody is, as age and sex."""
        return [c for c in self.raw.columns if c in self.constant and PERSON.match(plain(c))]

    @cached_property
    def pairs(self) -> list[Pair]:
        return _pairs(self)

    @property
    def told(self) -> bool:
        """Whether it could be a cohort of its own."""
        return bool(self.persons or self.pairs)

    def words(self, name: str) -> pl.Series:
        """Cells as the states of an outcome are compared: 1.0 is 1."""
        return text(self.raw[name]).str.replace(r"^(-?\d+)\.0+$", "$1")

    def states(self, name: str) -> dict[str, int]:
        """How many patients have each word of a column; nothing where it has many, or holds times."""
        if self.kind[name] in ("date", "duration"):
            return {}
        frame = pl.DataFrame({"who": self.who, "word": self.words(name)}).drop_nulls().unique()
        count = frame.group_by("word").len().sort("word")
        return dict(count.iter_rows()) if len(count) <= WORDS else {}

    def binary(self, name: str) -> bool:
        return {state.lower() for state in self.states(name)} in ({"0", "1"}, {"true", "false"})

    def distinct(self, name: str) -> int:
        return self.cells[name].drop_nulls().n_unique()

    def lines(self) -> list[str]:
        """The README, those lines first that name this table."""
        return sorted(self.readme.splitlines(), key=lambda line: Path(self.name).stem not in line)


def _names(folder: Path, inside: str = "") -> list[str]:
    """The tables of a folder and of the folders in it; a folder of alike shards is one table."""
    found: list[str] = []
    for path in sorted((folder / inside).iterdir()):
        name = f"{inside}{path.name}"
        if path.is_file() and name.endswith((*CSV, ".parquet")) and not path.name.startswith("."):
            found.append(name)
        elif path.is_dir() and not inside and not name.startswith("."):
            shards = sorted(path.rglob("*.parquet"))
            alike = len(shards) > 1 and len(set(map(_schema, shards))) == 1
            found += [name] if alike else _names(folder, f"{name}/")
    return found


def _schema(shard: Path) -> str:
    try:
        return str(pl.read_parquet_schema(shard))
    except (pl.exceptions.PolarsError, OSError):
        return f"broken: {shard}"


def _sheet(folder: Path, name: str, readme: str) -> Sheet:
    """Refused, with the reason, where the file cannot be read."""
    path, how = folder / name, dict[str, Any]()
    typed = not name.endswith(CSV)
    try:
        if typed:
            shards = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
            raw = pl.scan_parquet(shards).head(ROWS).collect()
        else:
            how, raw = _csv(path)
    except (pl.exceptions.PolarsError, OSError, EOFError, UnicodeError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused(f"{name}: not read: {line}") from None
    if len(raw.columns) > WIDE:
        raise Refused(f"{name}: not read: {len(raw.columns)} columns; choose some, or summarise them first")
    sheet = Sheet(name, raw, readme, how)
    if how.get("decimal") == ",":
        raw = raw.with_columns(pl.col(pl.String).str.replace(r"^\s*(-?\d+),(\d+)\s*$", "$1.$2"))
    sheet.cells = pl.DataFrame({column: _cells(sheet, raw[column], typed) for column in raw.columns})
    return sheet


def _csv(path: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    """How a CSV is written, where the defaults do not fit, and its first rows."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    how: dict[str, Any] = {}
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as handle:
            while handle.read(1 << 20):
                pass
    except UnicodeError:
        how["encoding"] = "latin1"
    with opener(path, "rt", encoding=how.get("encoding", "utf-8-sig"), newline="") as handle:
        separator = max(",;\t|", key=handle.readline().count)
        handle.seek(0)
        header = next(csv.reader(handle, delimiter=separator), [])
    if separator != ("\t" if ".tsv" in path.name else ","):
        how["separator"] = separator
    if doubled := [name for i, name in enumerate(header) if name in header[:i]]:
        raise OSError(f"column {doubled[0]!r} stands twice in the header")
    encoding = how.get("encoding", "utf8")
    raw = pl.read_csv(path, separator=separator, encoding=encoding, infer_schema=False, n_rows=ROWS)
    raw.columns = header  # polars keeps the quotes of a quoted name doubled
    raw = raw.filter(~pl.all_horizontal(pl.all().is_null()))  # an empty line is no row
    if separator != ",":
        comma = raw.select(pl.all().str.contains(r"^-?\d+,\d+$").any())
        number_ = raw.select(pl.all().str.contains(r"^\s*(-?\d+(,\d+)?)?\s*$").fill_null(True).all())
        if any(comma[c][0] and number_[c][0] for c in raw.columns):
            how["decimal"] = ","
    return how, raw


def _cells(sheet: Sheet, cells: pl.Series, typed: bool) -> pl.Series:
    """A column as numbers, days or words; what it is goes into sheet.kind. Typed cells are not parsed."""
    name, epoch = cells.name, pl.zeros(len(cells), dtype=pl.Int64, eager=True)
    if cells.dtype.is_temporal() and cells.dtype != pl.Time:
        sheet.kind[name] = "duration" if cells.dtype == pl.Duration else "date"
        return moment(cells, None if cells.dtype == pl.Duration else epoch, name)[0] / DAY
    if cells.dtype.is_numeric() or cells.dtype == pl.Boolean:
        sheet.kind[name] = "number"
        return number(cells)[0]
    words = text(cells.cast(pl.String, strict=False))
    given = len(words) - words.null_count()
    value, odd = number(words)
    form = None if typed else _form_of(sheet, name, words.drop_nulls())
    iso = int(words.str.contains(r"^\d{4}-\d\d-\d\d([T ]|$)").sum() or 0)
    if not given:
        sheet.kind[name] = "empty"
    elif form is not None or iso >= 0.9 * given:
        sheet.kind[name], sheet.form[name] = "date", form or ""
        if form is None:
            words = words.set(~words.str.contains(r"^\d{4}-").fill_null(True), None)
        return moment(words, epoch, name, TimeSpec(format=form))[0] / DAY
    elif not typed and odd.sum() <= 0.1 * given:
        sheet.kind[name] = "mixed" if odd.any() else "number"
        return value
    else:
        sheet.kind[name] = "text"
    return words


def _form_of(sheet: Sheet, name: str, words: pl.Series) -> str | None:
    """The strptime format of dates that are not ISO 8601; day first where nothing tells, which is asked."""
    first = words[0].strip() if len(words) else ""
    if re.fullmatch(r"\d{1,2}-[A-Za-z]{3}-\d{4}", first):
        return "%d-%b-%Y"
    if "dat" in plain(name) and words.str.contains(r"^(19|20)\d\d[01]\d[0-3]\d$").all() and first:
        return "%Y%m%d"
    shape = r"\d{1,2}(?P<sign>[./-])\d{1,2}[./-]\d{4}(?P<clock> \d{1,2}:\d{2}(?P<second>:\d{2})?)?"
    if not (found := re.fullmatch(shape, first)):
        return None
    parts = words.str.extract_groups(r"^(\d{1,2})[./-](\d{1,2})").struct
    left, right = (bool((parts.field(i).cast(pl.Int64, strict=False) > 12).any()) for i in ("1", "2"))
    if left and right:
        return None
    if not left and not right:
        sheet.unsure.add(name)
    clock = (" %H:%M" if found["clock"] else "") + (":%S" if found["second"] else "")
    return found["sign"].join(("%m", "%d", "%Y") if right else ("%d", "%m", "%Y")) + clock


# Who the patients are


def _plain(draft: Draft) -> None:
    """Tables without a standard format."""
    sheets: list[Sheet] = []
    for name in _names(draft.folder):
        try:
            sheets.append(_sheet(draft.folder, name, draft.readme))
        except Refused as error:
            draft.left.append(str(error))
    sheets = [sheet for sheet in sheets if len(sheet.raw)]
    if not sheets:
        why = f" ({draft.left[0]})" if draft.left else ""
        raise Refused(f"{draft.folder}: no table that can be read{why}; put .csv, .tsv or .parquet there")
    sheets = _together(draft, _keyed(draft, sheets))
    people = _people(draft, sheets)
    draft.sheets = sheets
    origin = _origin(draft, people)
    draft.patient.keys["origin"] = origin or ""
    pairs = _usable(draft, people, origin)
    labels = [] if pairs else _labels(sheets)
    for pair in pairs:
        _survival(draft, pair, pairs)
    for sheet, column in labels:
        _diagnosis(draft, sheet, column)
    ahead = {sheet.name: _ahead(sheet, pairs, labels) for sheet in sheets}
    _statics(draft, people, ahead[people.name], origin)
    gaps: list[float] = []
    for sheet in sheets:
        gaps += _node(draft, sheet, people, ahead[sheet.name], origin)
    if not draft.nodes and people.unique:
        _analytes_as_nodes(draft, people)
    if not draft.outcomes:
        _onset(draft, sheets)
    _codes_as_outcomes(draft, sheets, pairs)
    gap = float(np.median(gaps)) if gaps else 1.0
    draft.every = "1h" if gap < 0.2 else "1d" if gap <= 45 else "30d"
    for sheet in sheets:
        if len(sheet.raw) == ROWS:
            sheet.said.append(f"{sheet.name}: the first {ROWS} rows were looked at; later ones may differ")


def _keyed(draft: Draft, sheets: list[Sheet]) -> list[Sheet]:
    """The tables that have a column with the patient's id: the known name that most of them have."""
    names = {sheet.name: {plain(c): c for c in reversed(sheet.raw.columns)} for sheet in sheets}
    count = {key: sum(key in names[sheet.name] for sheet in sheets) for key in KEYS}
    best = max(KEYS, key=lambda key: (count[key], -KEYS.index(key)))
    for sheet in sheets:
        known = [names[sheet.name][key] for key in (best, *KEYS) if key in names[sheet.name]]
        sheet.key = next((c for c in known if sheet.raw[c].n_unique() > 1), "")
        if not sheet.key and len(sheets) == 1:
            likely = [c for c in sheet.raw.columns if sheet.raw[c].n_unique() == len(sheet.raw)]
            sheet.key = next((c for c in likely if sheet.kind[c] == "text" or _names_rows(sheet, c)), "")
            draft.said += [f"ASK: patient.key: {sheet.key} differs in every row; is it the patient?"] * bool(
                sheet.key
            )
        if not sheet.key:
            draft.left.append(f"{sheet.name}: no column could be the patient's id")
    if not any(sheet.key for sheet in sheets):
        raise Refused(
            f"{draft.folder}: no column could be the patient's id; call one patient_id (the number of the "
            "row would do where a row is a patient)"
        )
    return [sheet for sheet in sheets if sheet.key]


def _names_rows(sheet: Sheet, name: str) -> bool:
    """Named as an id, or as a row's own number."""
    word = plain(name)
    if sheet.kind[name] not in ("number", "text") or (
        sheet.kind[name] == "number" and not _whole(sheet, name)
    ):
        return False
    named = re.search(r"id$", word) and not re.search(r"(acid|oid|fluid|lipid|covid)$", word)
    named = named or word in ("sno", "index", "row", "rownr", "rownames")
    return bool(named) and (sheet.raw[name].n_unique() > WORDS or word in KEYS)


def _whole(sheet: Sheet, name: str) -> bool:
    return bool((sheet.cells[name].round() == sheet.cells[name]).fill_null(True).all())


def _together(draft: Draft, sheets: list[Sheet]) -> list[Sheet]:
    """The tables that tell of the same patients as the largest one that says who they are."""

    def size(sheet: Sheet) -> tuple[bool, int]:
        return sheet.told, sum(len(sheet.raw) - n for n in sheet.raw.null_count().row(0))

    anchor = max(sheets, key=size)
    why = {sheet.name: _stranger(anchor, sheet) for sheet in sheets if sheet is not anchor}
    if any(why[sheet.name] for sheet in sheets if sheet.told and sheet is not anchor):
        draft.said.append(
            "ASK: patient.table: several cohorts are here: they do not share patients, or tell of the same "
            f"ones twice. {anchor.name} has the most cells and was taken; which do you want?"
        )
        for sheet in sheets:  # ids that only count mean nothing then
            if sheet is not anchor and _counts(sheet) and not sheet.who.is_in(anchor.who.implode()).all():
                why[sheet.name] = why[sheet.name] or "its ids only count, and not all are known"
    draft.left += [
        f"{name}: not taken with {anchor.name}: {reason}" for name, reason in why.items() if reason
    ]
    return [sheet for sheet in sheets if sheet is anchor or not why[sheet.name]]


def _counts(sheet: Sheet) -> bool:
    return bool(sheet.who.drop_nulls().str.contains(r"^\d{1,6}$").all())


def _stranger(anchor: Sheet, sheet: Sheet) -> str:
    """Why the ids of a table are not those of the anchor; "": they may be."""
    here, there = set(sheet.who.drop_nulls()), set(anchor.who.drop_nulls())
    if len(here & there) < 0.5 * min(len(here), len(there)):
        return f"{len(here & there)} of its {len(here)} ids are there"
    both = bool(anchor.pairs) and bool(sheet.pairs)
    theirs = {plain(c): c for c in anchor.persons}
    joined = sheet.people.join(anchor.people, on=WHO, suffix="\0")
    for name in sheet.persons:
        if (other := theirs.get(plain(name))) is None or sheet.kind[name] != anchor.kind[other]:
            continue
        one, two = joined[name], joined[f"{other}\0" if other in sheet.people.columns else other]
        if sheet.kind[name] == "text":  # f and female
            same = one.str.to_lowercase().str.slice(0, 1) == two.str.to_lowercase().str.slice(0, 1)
        else:
            same = (one - two).abs() <= 0.01 * two.abs()
        share = float(same.mean()) if same.drop_nulls().len() else 1.0  # type: ignore[arg-type]
        if share < 0.9:
            return f"{name} agrees for {share:.0%} of the ids in both: other people"
        if both:
            return f"{name} agrees: the same people a second time, with an outcome of its own"
        return ""
    if anchor.told and sheet.told and here != there and _counts(anchor) and _counts(sheet):
        return "its ids only count, and nothing says that these are the same people"
    return ""


def _people(draft: Draft, sheets: list[Sheet]) -> Sheet:
    """The patient table: one that has nearly all ids, if possible with a row a patient."""
    most = max(sheet.who.n_unique() for sheet in sheets)

    def rank(sheet: Sheet) -> tuple[bool, bool, bool, int]:
        return sheet.who.n_unique() >= 0.95 * most, sheet.unique, bool(sheet.persons), len(sheet.raw.columns)

    people = max(sheets, key=rank)
    known = people.who.drop_nulls().unique()
    rows = "a row" if people.unique else "several rows"
    draft.patient.said.append(f"{people.name}: {len(known)} patients by {people.key}, {rows} each")
    draft.patient.keys = {"table": people.name, "key": people.key}
    for sheet in sheets:
        if sheet is not people:
            share = float(sheet.who.drop_nulls().unique().is_in(known.implode()).mean() or 0)  # type: ignore[arg-type]
            draft.patient.said.append(f"{sheet.name}: {share:.0%} of its {sheet.key} are patients there")
        if sheet.key != people.key:
            sheet.how["key"] = sheet.key
    return people


def _origin(draft: Draft, people: Sheet) -> str | None:
    """The column with the date of day 0, which every patient must have."""
    dates = [c for c in people.raw.columns if people.kind[c] == "date" and c in people.constant]
    dates = [c for c in dates if not people.people[c].null_count() and not re.search("birth|dob", plain(c))]
    if not dates:
        return None
    best = min(dates, key=lambda c: (not BEGINS.search(plain(c)), people.people[c].median(), c))
    found = ", ".join(dates)
    draft.patient.said.append(f"ASK: patient.origin: is {best} day 0? dates without a gap: {found}")
    _clock(people, best)
    return best


def _clock(sheet: Sheet, time: str, *others: str) -> None:
    """[tables.NAME] time: the format of dates, else the unit of offsets, asked where no column tells it."""
    if sheet.clocked or sheet.kind[time] == "duration":
        return
    sheet.clocked, place = True, f"tables.{_key(sheet.name)}.time"
    if sheet.kind[time] == "date":
        if form := sheet.form.get(time):
            sheet.how["time"] = {"format": form}
            sheet.said += [f"ASK: {place}: is it {form}, or does the month come first?"] * (
                time in sheet.unsure
            )
        return
    for name in (time, *others):
        if found := _unit_of_time(sheet, name):
            unit, why = found
            sheet.how |= {"time": {"unit": unit}} if unit != "d" else {}
            sheet.said.append(f"{sheet.name}: {name} is in {unit}: {why}")
            return
    far = float(sheet.cells[time].abs().max() or 0)  # type: ignore[arg-type]
    sheet.said.append(
        f"ASK: {place}: {time} is taken as days; it reaches {far:.4g}. Else time = {{ unit = "
        '"s", "min", "h", "w", "mo" or "y" }'
    )


def _unit_of_time(sheet: Sheet, name: str) -> tuple[str, str] | None:
    """The unit of a column of offsets, and what tells it: its name, the README, or large minutes."""
    parts = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    for unit, spelled in SPELLED.items():
        if any(re.fullmatch(spelled, part) for part in parts):
            return unit, "its name says so"
    tail = "|".join(f"(?P<{unit}>{spelled})" for unit, spelled in SPELLED.items())
    for line in sheet.lines():
        near = rf"(?i)(?<![\w.]){re.escape(name)}(?![\w.])[^.;|]{{0,40}}?(?<![\w-])(?:{tail})(?!\w)"
        if found := re.search(near, line):
            return str(found.lastgroup), "the README says so"
    if name.lower().endswith("offset"):
        if found := re.search(rf"(?i)offset[^.;|]{{0,40}}?\b(?:{tail})\b", sheet.readme):
            return str(found.lastgroup), "the README says so of offsets"
        if float(sheet.cells[name].abs().max() or 0) > 5000:  # type: ignore[arg-type]
            return "min", "an offset with large numbers; check that"
    return None


# What is predicted


@dataclass(frozen=True)
class Pair:
    """A time of the whole follow-up, and the column that says what happened then."""

    sheet: Sheet
    name: str
    time: str
    flag: str | None  # None: a time alone, empty where it did not happen
    states: dict[str, str] | None = None  # None: 1 = happened
    why: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(c for c in (self.time, self.flag) if c)

    @property
    def ends(self) -> bool:
        """Whether it competes with every other outcome: a death with a 0 and 1."""
        return self.name == "death" and self.flag is not None and self.states is None

    def cause(self, table: str) -> dict[str, str]:
        """As a cause of an outcome of some table."""
        own = {"table": self.sheet.name} if self.sheet.name != table else {}
        return {**own, "time": self.time, **({"flag": self.flag} if self.flag else {})}

    def happened(self) -> pl.DataFrame:
        """WHO, event (whether it came) and time (in the unit of the table) of each patient."""
        if self.flag is None:
            event = self.sheet.cells[self.time].is_not_null()
        else:
            came = (
                ["1", "true"]
                if self.states is None
                else [s for s, m in self.states.items() if m != "censored"]
            )
            words = self.sheet.words(self.flag)
            event = (words.str.to_lowercase() if self.states is None else words).is_in(came)
        frame = pl.DataFrame({WHO: self.sheet.who, "event": event, "time": self.sheet.cells[self.time]})
        return frame.group_by(WHO, maintain_order=True).agg(pl.col("event").max(), pl.col("time").max())


def _pairs(sheet: Sheet) -> list[Pair]:
    """Survival outcomes: a time of the whole follow-up and a status beside it, joined by name or by content.

    Where three times or more stand side by side, a flag belongs to the time that is short of the latest one
    just where the flag is 1.
    """
    columns = [c for c in sheet.raw.columns if c in sheet.constant]
    times = [c for c in columns if sheet.kind[c] == "number" and FOLLOWED.search(plain(c))]
    times = [c for c in times if not BEGINS.search(plain(c))]
    flags = [c for c in columns if c not in times and not NOMINAL.search(plain(c))]
    flags = [c for c in flags if 2 <= len(sheet.states(c)) <= 8]
    flags = [c for c in flags if sheet.binary(c) or HAPPENS.search(plain(c))]
    last = sheet.people.select(pl.max_horizontal(times)).to_series() if len(times) > 2 else None
    scored = []
    for time, flag in product(times, flags):
        score = _alike(time, flag)
        if last is not None and sheet.binary(flag):
            short, event = sheet.people[time] < last, sheet.people[flag] == 1
            right = float(short.filter(event).mean() or 0) + float((~short).filter(~event).mean() or 0)  # type: ignore[arg-type]
            score += 0.5 if score and right > 1.8 else 0.6 if right > 1.94 else 0
        if score >= 0.6:
            scored.append((-score, columns.index(time), columns.index(flag), time, flag))
    pairs: list[Pair] = []
    for *_, time, flag in sorted(scored):
        if not any(time in pair.columns or flag in pair.columns for pair in pairs):
            pairs.append(_pair(sheet, time, flag))
    used = {c for pair in pairs for c in pair.columns}
    for time in times if any(pair.ends for pair in pairs) else []:
        if time not in used and sheet.people[time].null_count() > 0.05 * len(sheet.people):
            why = f"{time} has no flag; is an empty cell somebody to whom it did not happen?"
            pairs.append(
                Pair(sheet, _slug(TOKENS.sub("", plain(time)) or time, "event"), time, None, None, why)
            )
    order = sheet.raw.columns.index
    return sorted(pairs, key=lambda pair: (pair.name != "death", order(pair.time)))


def _alike(time: str, flag: str) -> float:
    """How well two names go together: futime and status, d.time and death, rtime and recur."""
    word = plain(flag)
    a, b = TOKENS.sub("", plain(time)), FLAG.sub("", word)
    letters = iter(b)
    if a == b:
        return 1.0
    if DEATH.search(word) and a in ("", "d", "os", "surv", "dth", "death"):
        return 0.9
    if len(a) > 1 and (a in b or (len(b) > 1 and b in a)):
        return 0.8
    happens = bool(HAPPENS.search(word))
    if (len(a) > 1 and all(c in letters for c in a)) or (len(a) == 1 and b.startswith(a) and happens):
        return 0.7
    return 0.6 if (not b or not a) and happens else 0.0


def _pair(sheet: Sheet, time: str, flag: str) -> Pair:
    """The pair with a name, and with the meaning of its states: from the README where it has one."""
    told, word = _told_states(sheet, flag), plain(flag)
    if sheet.binary(flag) and word.startswith("cens"):
        meaning = {s: "censored" if s.lower() in ("1", "true") else "event" for s in sheet.states(flag)}
        return Pair(sheet, "event", time, flag, meaning, f"by its name {flag} = 1 is censored; is that so?")
    name = "death" if DEATH.search(word) else _slug(FLAG.sub("", word) or flag, "outcome")
    if sheet.binary(flag):
        if told.get("1", "censored") != "censored":
            why = f"{flag} = 1 is {told['1']}, as the README says, and 0 censored?"
            return Pair(sheet, _slug(told["1"], "outcome"), time, flag, None, why)
        return Pair(
            sheet, name, time, flag, None, f"does {flag} = 1 mean that it happened at {time}, 0 censored?"
        )
    leaving, meaning = "discharge" in plain(time), dict[str, str]()
    for state in sheet.states(flag):
        if state in told:
            meaning[state] = told[state]
        elif ALIVE.match(state):  # leaving alive competes with death in hospital
            meaning[state] = "discharge" if leaving else "censored"
        else:
            meaning[state] = "death" if DEATH.search(plain(state)) else _slug(state, "event")
    if name == "death" or "death" in meaning.values():
        name = "leaving" if leaving else "death"
    return Pair(sheet, name, time, flag, meaning, f"is that what the states of {flag} mean?")


def _told_states(sheet: Sheet, flag: str) -> dict[str, str]:
    """What the README says that numbers mean, as in `status 0 censored, 1 transplant, 2 death`."""
    states = sheet.states(flag)
    for line in sheet.lines():
        line = re.sub(r"\([^)]*\)", "", line)
        if found := re.search(rf"(?<![\w.]){re.escape(flag)}(?![\w.])([^.;|]{{0,120}})", line):
            told = dict(re.findall(r"(?<!\w)(\d)\s*=?\s*([A-Za-z]{4,})", found[1]))
            told = {"0": "censored"} | told if "0" in states else told
            if told.keys() == states.keys():
                return {s: "censored" if ALIVE.match(w) else _slug(w, "event") for s, w in told.items()}
    return {}


def _usable(draft: Draft, people: Sheet, origin: str | None) -> list[Pair]:
    """The pairs that can be read: no gap that `where` cannot leave out, no time before day 0."""
    kept, where = [], {}
    for pair in (pair for sheet in draft.sheets for pair in sheet.pairs):
        sheet, flag = pair.sheet, pair.flag
        time, place = sheet.people[pair.time], f"{sheet.name}: {' and '.join(pair.columns)}"
        gap = time.is_null() & False if flag is None else sheet.people[flag].is_null()
        wrong = (time < 0).fill_null(False) | (time.is_null() & ~gap & (flag is not None))
        words = sheet.states(flag) if flag and pair.states else {}
        if any(n < FEW and not word.isdigit() for word, n in words.items()):
            draft.left.append(f"{place}: a state of fewer than {FEW} patients; join it with another")
        elif wrong.any():
            draft.left.append(f"{place}: {wrong.sum()} patient(s) with a time before day 0, or with none")
        elif origin and sheet is people and people.form.get(origin):
            draft.left.append(f"{place}: offsets, in a table whose times are written as dates")
        elif gap.sum() > (0.2 * len(gap) if sheet is people else 0):
            draft.left.append(f"{place}: {gap.sum()} patient(s) without a state; missing is not censored")
        else:
            kept.append(pair)
            _clock(sheet, pair.time, *(other.time for other in sheet.pairs))
            if flag and gap.any():
                where[flag] = sorted(
                    sheet.raw[flag].filter(sheet.words(flag).is_not_null()).cast(pl.String).unique()
                )
                ask = f"{gap.sum()} without {flag} are left out: missing is not censored. Is that right?"
                draft.patient.said.append(f"ASK: patient.where: {ask}")
    draft.patient.keys["where"] = where
    return kept


def _survival(draft: Draft, pair: Pair, pairs: list[Pair]) -> None:
    """An outcome of a pair, with death as a competing cause where there is one."""
    frame, table = pair.happened(), pair.sheet.name
    zero = frame.filter(pl.col("event"), pl.col("time") <= 0).height
    said = f"{frame['event'].sum()} of {len(frame)} patients have the event"
    said += f"; {zero} at time 0: they had it before, and are not at risk" if zero else ""
    name, keys = _free(draft.outcomes, pair.name), dict[str, Any](kind="survival", table=table)
    if pair.states is not None:
        keys["status"] = {"column": pair.flag, "states": pair.states, "time": pair.time}
    else:
        ends = [p for p in pairs if p.ends and p is not pair][:1] if not pair.ends else []
        keys["causes"] = {name: pair.cause(table), **{p.name: p.cause(table) for p in ends}}
    draft.outcome(name, pair.why, keys, said)


def _labels(sheets: list[Sheet]) -> list[tuple[Sheet, str]]:
    """A column with the class of each patient, where there is no time to an event."""
    for sheet in sheets:
        for name in (c for c in sheet.raw.columns if c in sheet.constant):
            states = sheet.states(name)
            if not 2 <= len(states) <= 6 or min(states.values()) < FEW:
                continue
            if LABEL.search(plain(name)) or (plain(name) == "group" and any(map(DISEASE.search, states))):
                return [(sheet, name)]
    return []


def _diagnosis(draft: Draft, sheet: Sheet, column: str) -> None:
    states = sheet.states(column)
    draft.outcome(
        name := _slug(column, "label"),
        f"what does {column} mean, and since when was it known? without `known` never in time",
        {
            "kind": "diagnosis",
            "table": sheet.name,
            "column": column,
            "classes": {} if sheet.binary(column) else {s: _slug(s, name) for s in states},
        },
        "patients: " + ", ".join(f"{n} with {state}" for state, n in states.items()),
    )


def _onset(draft: Draft, sheets: list[Sheet]) -> None:
    """A label that changes within a patient as the time of its first 1; observed until the last row."""
    by_name = {sheet.name: sheet for sheet in sheets}
    seen: dict[str, int] = {}  # patients with a row, by kind
    for kind, block in draft.nodes.items():
        if block.keys.get("time"):
            sheet = by_name[block.keys["table"]]
            columns = list(block.keys.get("columns", [sheet.key]))
            given = sheet.cells.select(pl.any_horizontal(pl.col(columns).is_not_null())).to_series()
            seen[kind] = sheet.who.filter(given).n_unique()
    kind = max(seen, key=lambda name: seen[name], default="")
    labels = [(sheet, c) for sheet in sheets for c in sheet.raw.columns if LABEL.search(plain(c)) and kind]
    for sheet, name in labels:
        if (time := _times(sheet)[0]) is None or name in sheet.constant or not sheet.binary(name):
            continue
        if lost := max(sheet.who.n_unique() - seen[kind], 0):
            draft.left.append(f"{sheet.name}: {name}: {lost} patient(s) have no {kind} to be observed by")
            continue
        _clock(sheet, time)
        cells = sheet.raw[name].drop_nulls().cast(pl.String).unique().sort()
        where = {name: [cell for cell in cells if cell[0] in "1tT"]}
        ask = f"is the first {name} of a patient the event, and the last {kind} the end of observation?"
        keys = {
            "kind": "survival",
            "causes": {_slug(name, "label"): {"table": sheet.name, "time": time, "where": where}},
            "exit": {"node": kind, "code": "*", "pick": "last"},
        }
        draft.outcome(_slug(name, "label"), ask, keys)
        return


def _codes_as_outcomes(draft: Draft, sheets: list[Sheet], pairs: list[Pair]) -> None:
    """The three codes of a table of diagnoses that most patients get after day 0, with death beside them."""
    end = next((pair for pair in pairs if pair.ends), None)
    for kind, block in list(draft.nodes.items()):
        sheet = next(sheet for sheet in sheets if sheet.name == block.keys["table"])
        code, time = block.keys.get("code"), block.keys.get("time")
        if end is None or not code or not time or block.keys.get("value") or sheet.kind[time] == "date":
            continue
        if not any(re.search(named, plain(code)) for named in CODES):  # signs, not diagnoses
            continue
        frame = pl.DataFrame(
            {"who": sheet.who, "code": text(sheet.raw[code]), "at": sheet.cells[time]}
        ).drop_nulls()
        if frame["code"].n_unique() > WORDS or sheet.name == end.sheet.name:
            continue
        first = frame.group_by("who", "code").agg(pl.col("at").min())
        new = first.group_by("code").agg((pl.col("at") > 0).sum().alias("new"), pl.len().alias("ever"))
        new = new.filter(pl.col("new") >= 20).sort(["new", "code"], descending=[True, False]).head(3)
        for word, count, ever in new.iter_rows():
            name, table = _free(draft.outcomes, _slug(word, "diagnosis")), end.sheet.name
            causes = {name: {"node": kind, "codes": [word]}, "death": end.cause(table)}
            said = f"{count} patients first have it after day 0; {ever - count} had it before: not at risk"
            ask = "is this to be predicted? until it comes its code may be in the inputs of others"
            draft.outcome(name, ask, {"kind": "survival", "table": table, "causes": causes}, said)


# What must not be an input


def _ahead(sheet: Sheet, pairs: list[Pair], labels: list[tuple[Sheet, str]]) -> dict[str, str]:
    """Columns that are an outcome, look into the future or tell the outcome nearly by themselves, and why."""
    why = {c: "part of an outcome" for pair in pairs if pair.sheet is sheet for c in pair.columns}
    why |= {name: "part of an outcome" for of, name in labels if of is sheet}
    outcomes = [(pair.name, pair.happened()) for pair in pairs]
    for of, label in labels:
        for state in list(of.states(label))[-1:] if of.binary(label) else of.states(label):
            frame = pl.DataFrame({WHO: of.who, "event": of.words(label) == state})
            outcomes.append((state, frame.unique(WHO, keep="first", maintain_order=True)))
    warned = [s for s in re.split(r"[.\n](?=\s|$)", sheet.readme) if AHEAD_TEXT.search(s)]
    warned_of = set(re.findall(r"[\w.]+", " ".join(warned)))
    for name in (c for c in sheet.raw.columns if c not in why and c != sheet.key):
        word, held = plain(name), name in sheet.constant
        numeric, few = sheet.kind[name] == "number", 2 <= len(sheet.states(name)) <= 8
        if len(name) > 2 and name in warned_of:
            why[name] = "the README says that it looks ahead"
        elif AHEAD.search(word):
            why[name] = "by its name it looks ahead, or repeats an outcome"
        elif held and numeric and not sheet.unique and FOLLOWED.search(word) and not BEGINS.search(word):
            why[name] = "a time of the whole follow-up"
        elif (HAPPENS.search(word) and few and (held or numeric)) or (
            LABEL.search(word) and (few or numeric)
        ):
            why[name] = "by its name a state or a label, not an input"
        elif told := _tells(sheet, name, outcomes):
            why[name] = told
    return why


def _tells(sheet: Sheet, name: str, outcomes: list[tuple[str, pl.DataFrame]]) -> str:
    """Whether the first value that a patient has tells an outcome nearly by itself; "": no."""
    if sheet.kind[name] not in ("number", "text") or (
        sheet.kind[name] == "text" and sheet.distinct(name) > WORDS
    ):
        return ""
    for outcome, frame in outcomes:
        joined = sheet.people.select(WHO, pl.col(name).alias("value")).join(frame, on=WHO)
        joined = joined.drop_nulls(["value", "event"])
        event = joined["event"]
        if min(int(event.sum()), int((~event).sum())) < 10:
            continue
        value = joined["value"]
        if sheet.kind[name] == "text":  # each word by its share of events
            value = joined.select(pl.col("event").cast(pl.Float64).mean().over("value")).to_series()
        elif "time" in frame.columns:
            rank = float(joined.select(pl.corr("value", "time", method="spearman")).item() or 0)
            if abs(rank) > TELLING:
                return f"goes with the time of {outcome} (rank correlation {rank:.2f})"
        if (found := _auc(value, event)) > TELLING:
            return f"tells {outcome} nearly by itself (rank AUC {found:.2f})"
    return ""


def _auc(value: pl.Series, event: pl.Series) -> float:
    """Rank AUC in the better direction; ties count half."""
    n, m = int(event.sum()), int((~event).sum())
    auc = (float(value.rank("average").filter(event).sum()) - n * (n + 1) / 2) / (n * m)
    return max(auc, 1 - auc)


# What is known of the patients


def _statics(draft: Draft, people: Sheet, ahead: dict[str, str], origin: str | None) -> None:
    """Columns that are constant in a patient: a category with two values or few words, else a number."""
    keys, said = draft.patient.keys, draft.patient.said
    keys |= {"number": [], "category": [], "first": []}
    why = {c: reason for c, reason in ahead.items() if reason != "part of an outcome"}
    for name in (c for c in people.raw.columns if c not in ahead and c not in (people.key, origin)):
        word, kind, distinct = plain(name), people.kind[name], people.distinct(name)
        nominal = distinct == 2 or (bool(NOMINAL.search(word)) and distinct <= WORDS)
        if name not in people.constant:
            if PERSON.match(word) and "age" in word and kind == "number":
                keys["number"].append(name)
                keys["first"].append(name)
        elif GROUP.search(word) and 10 < distinct < 0.98 * len(people.people):
            said.append(f"ASK: patient.group: patients share {name}; are they to stay together in splits?")
            keys.setdefault("group", name)
        elif kind == "number" and ENTRY.search(word) and not people.people[name].null_count():
            said.append(f"ASK: patient.entry: does observation start at {name}?")
            keys.setdefault("entry", name)
        elif _names_rows(people, name) or (kind == "text" and distinct > WORDS):
            why[name] = "ids, or more words than a category has"
            said += [f"ASK: patient.group: are splits to keep each {name} together?"] * bool(
                SITE.search(word)
            )
        elif distinct < 2:
            why[name] = "constant or empty"
        elif kind in ("text", "number"):
            keys["category" if kind == "text" or nominal else "number"].append(name)
        else:
            why[name] = "numbers and some words" if kind == "mixed" else f"a {kind}, which is no static"
    draft.leave(people.name, why)


# What happens in time


def _times(sheet: Sheet) -> tuple[str | None, str | None, str | None]:
    """The columns that say when a row happened, became known and ended."""
    able = [c for c in sheet.raw.columns if c not in sheet.constant and c != sheet.key]
    able = [c for c in able if not re.search(r"^fu|follow|tte$", plain(c))]
    able = [c for c in able if sheet.kind[c] in ("number", "date", "duration") and not AHEAD.search(plain(c))]
    able = [c for c in able if sheet.kind[c] != "number" or CLOCK.search(plain(c))]
    able = [c for c in able if not _names_rows(sheet, c)]

    def rank(name: str) -> tuple[bool, int, int]:
        level = next((i for i, named in enumerate(WHEN) if re.search(named, plain(name))), len(WHEN))
        return bool(KNOWN.search(plain(name))), level, sheet.raw.columns.index(name)

    if not able and not sheet.told:  # all rows of a patient may have one time
        able = [c for c in sheet.raw.columns if c in sheet.constant and CLOCK.search(plain(c))]
        able = [
            c for c in able if sheet.kind[c] in ("number", "date", "duration") and not _names_rows(sheet, c)
        ]
    starts = [c for c in able if not UNTIL.search(plain(c))]
    if not starts or sheet.unique:
        return None, None, None
    time = min(starts, key=rank)

    def after(named: re.Pattern[str], given: float, rightly: float) -> str | None:
        """A column of that name that is given, and not before `time`, in these shares of the rows."""
        for name in able:
            if name != time and named.search(plain(name)) and sheet.kind[name] == sheet.kind[time]:
                later = (sheet.cells[name] >= sheet.cells[time]).drop_nulls()
                if len(later) >= max(given * len(sheet.cells), 1) and later.sum() >= rightly * len(later):
                    return name
        return None

    return time, after(KNOWN, 0.99, 0.98), after(UNTIL, 0.0, 0.9)


def _node(
    draft: Draft, sheet: Sheet, people: Sheet, ahead: dict[str, str], origin: str | None
) -> list[float]:
    """The kinds of node of a table; gives the days between the moments of a patient, where it has some."""
    time, known, until = _times(sheet)
    if sheet is people and sheet.unique:
        return []
    if time is None and not sheet.unique:
        draft.left.append(f"{sheet.name}: several rows a patient, but no column that could be their time")
        return []
    if time and sheet.kind[time] == "date" and origin is None:
        draft.left.append(
            f"{sheet.name}: {time} holds dates, but no date in the patient table is everybody's day 0"
        )
        return []
    if time and FOLLOWED.search(plain(time)) and not until and (states := _states_of_rows(sheet)):
        reason = "each row has a state at its time: events, for causes = { NAME = { time, where } }"
        draft.leave(sheet.name, dict.fromkeys((time, *states), reason))
        return []
    head: dict[str, Any] = {
        "table": sheet.name,
        "time": time or "",
        "known": known or "",
        "until": until or "",
    }
    if time:
        _clock(sheet, time)
    else:
        head["untimed"] = "origin"
    said = [] if time else [f"ASK: nodes: {sheet.name} has no time; is all of it known on day 0?"]
    said += [f"a row is seen from {known} on; one that comes before its {time} is refused"] if known else []
    why = {c: reason for c, reason in ahead.items() if reason != "part of an outcome" and sheet is not people}
    usable = []
    for name in (c for c in sheet.raw.columns if c not in (sheet.key, time, known, until) and c not in ahead):
        if time and name in sheet.constant:
            if sheet is not people:
                why[name] = "does not change in a patient; a static has to be in the patient table"
        elif COUNTER.match(plain(name)) or _names_rows(sheet, name):
            why[name] = "counts or names rows"
        elif PERSON.match(plain(name)):
            if sheet is not people:
                why[name] = "a matter of the patient table"
        elif sheet.kind[name] not in ("number", "text", "mixed") or sheet.distinct(name) < 2:
            why[name] = "constant, or a time that no key takes"
        else:
            usable.append(name)
    code = _code(sheet, usable) if time else None
    if code is not None:
        taken = _long(draft, sheet, head, said, code, usable)
        why |= {c: "not needed beside the code" for c in usable if c not in taken}
    else:
        words = [c for c in usable if sheet.kind[c] == "text" and sheet.distinct(c) <= WORDS and time][:8]
        _wide(draft, sheet, head, said, [c for c in usable if sheet.kind[c] == "number"])
        for name in words:
            draft.node(_slug(name, "word"), {**head, "code": name, "edges": ["at"]}, *said)
        why |= {
            c: "words, or numbers and words" for c in usable if c not in words and sheet.kind[c] != "number"
        }
    draft.leave(sheet.name, why)
    if time is None:
        return []
    unit = UNITS[sheet.how.get("time", {}).get("unit", "d")] / DAY if sheet.kind[time] == "number" else 1.0
    moments = pl.DataFrame({WHO: sheet.who, "at": sheet.cells[time]}).drop_nulls().unique().sort(WHO, "at")
    gap = moments.select(pl.col("at").diff().over(WHO)).to_series().median()
    return [] if gap is None else [float(gap) * unit]  # type: ignore[arg-type]


def _states_of_rows(sheet: Sheet) -> list[str]:
    """Numbers that say whether something happened, other in each row of a patient."""
    named = [c for c in sheet.raw.columns if HAPPENS.search(plain(c)) and c not in sheet.constant]
    return [c for c in named if sheet.kind[c] == "number" and 2 <= len(sheet.states(c)) <= 8]


def _code(sheet: Sheet, usable: list[str]) -> str | None:
    """The column that names what was measured, of a long table."""
    for named, name in product(CODES, usable):
        kind, distinct = sheet.kind[name], sheet.distinct(name)
        numbered = kind == "number" and re.search("code|item", plain(name)) and _whole(sheet, name)
        if (
            (kind == "text" or numbered)
            and re.search(named, plain(name))
            and distinct <= 0.7 * len(sheet.raw)
        ):
            return name
    return None


def _wide(draft: Draft, sheet: Sheet, head: dict[str, Any], said: list[str], columns: list[str]) -> None:
    """Columns of numbers as kinds: known laboratory values, vital signs, signs with few values, the rest."""
    kinds: dict[str, dict[str, str]] = {}
    for name in columns:
        analyte = ANALYTE.get(plain(name), "")
        kind = "vital" if analyte in VITAL else "lab" if analyte else "measure"
        kind = "sign" if not analyte and sheet.distinct(name) <= 4 else kind
        unit, why = _unit_of(sheet, name, analyte)
        kinds.setdefault(kind, {})[name] = unit
        _unit(draft, name, analyte, unit, why)
    for kind, units in kinds.items():
        edges = ["at"] if kind == "sign" or "untimed" in head else ["at", "same"]
        draft.node(kind, {**head, "columns": units, "edges": edges}, *said)


def _analytes_as_nodes(draft: Draft, people: Sheet) -> None:
    """Laboratory values and vital signs where a row is a patient: nodes of day 0 instead of statics."""
    found = [c for c in draft.patient.keys["number"] if plain(c) in ANALYTE]
    draft.patient.keys["number"] = [c for c in draft.patient.keys["number"] if c not in found]
    said = [f"ASK: nodes: were the values in {people.name} known on day 0?"]
    _wide(draft, people, {"table": people.name, "untimed": "origin"}, said, found)


def _long(
    draft: Draft, sheet: Sheet, head: dict[str, Any], said: list[str], code: str, usable: list[str]
) -> tuple[str, ...]:
    """A table of codes: measurements where it has a value, else what its names say; the columns taken."""
    numeric = ("number",) if not sheet.name.endswith(CSV) else ("number", "mixed")
    value = next((c for c in usable if sheet.kind[c] in numeric and VALUE.search(plain(c)) and c != code), "")
    unit = next((c for c in usable if value and UNIT.search(plain(c)) and sheet.kind[c] == "text"), "")
    codes = pl.DataFrame({"who": sheet.who, "code": text(sheet.raw[code])}).drop_nulls().unique()
    count = codes.group_by("code").len().sort("code")
    common = count.filter(pl.col("len") >= FEW)["code"].to_list()
    kind = next((k for k, named in MEANS.items() if re.search(named, plain(sheet.name) + plain(code))), code)
    if value and (any(plain(word) in ANALYTE for word in common) or "lab" in plain(code + sheet.name)):
        kind = "lab"
    units = _units_of_codes(sheet, code, unit) if unit else {}
    mixed = {word for word, given in units.items() if len({u.casefold() for u in given}) > 1}
    if mixed - set(common):  # their names would have to be written into [units]
        draft.left.append(f"{sheet.name}: {unit}: a code of fewer than {FEW} patients comes in two units")
        unit, units = "", {}
    for word in common:
        analyte, given = ANALYTE.get(plain(word), ""), units.get(word, [])
        if len(given) > 1:
            _several(draft, word, given)
        elif not unit and analyte and value:
            unit_, why = _unit_of(sheet, word, analyte)
            _unit(draft, word, analyte, unit_, f"{why}; no unit is written, and that one is meant", {"": 1})
        elif analyte and given:
            _unit(draft, word, analyte, given[0], f"{unit} says so, and no unit means that one", {"": 1})
    edges = ["at", "same"] if value else ["at"]
    said = [f"{len(count)} codes, {len(common)} of them in {FEW} patients or more", *said]
    keys = {**head, "code": code, "value": value, "unit": unit, "edges": edges}
    draft.node(_slug(kind, "code"), keys, *said)
    return code, value, unit


def _units_of_codes(sheet: Sheet, code: str, unit: str) -> dict[str, list[str]]:
    """The units in which each code comes, the most frequent first."""
    frame = pl.DataFrame({"code": text(sheet.raw[code]), "unit": text(sheet.raw[unit])}).drop_nulls()
    count = (
        frame.group_by("code", "unit").len().sort(["code", "len", "unit"], descending=[False, True, False])
    )
    found = count.group_by("code", maintain_order=True).agg("unit")
    return dict(zip(found["code"].to_list(), found["unit"].to_list(), strict=True))


def _several(draft: Draft, code: str, units: list[str]) -> None:
    """[units] of a code that comes in several: only spellings that differ in case are taken as one."""
    to, *others = units
    same = {u: 1 for u in others if u.casefold() == to.casefold()}
    odd = ", ".join(u for u in others if u not in same)
    ask = f"ASK: units: {code}: rows in {odd} (or none) are refused until `from` says how many {to} that is"
    draft.units[code] = (
        ask if odd else f"{code}: one unit, spelled in two ways",
        {"to": to, **({"from": same} if same else {})},
    )


def _unit_of(sheet: Sheet, name: str, analyte: str) -> tuple[str, str]:
    """The unit of a column or code where its name or the README says it, and which of them; else "", ""."""
    if found := UNIT_IN_NAME.search(name.replace("/", "_")):
        spelled = re.sub(r"^(mg|g|mmol|umol)_?(dl|l)$", r"\1/\2", found[1].lower()).replace("kg_m2", "kg/m2")
        return ("mmHg" if spelled.startswith("mm") and "hg" in spelled else spelled), "its name says so"
    before = rf"(?<![\w.]){re.escape(name)}(?![\w.])(?P<others>(\s*[,/]\s*[\w.]+){{0,6}})$"
    for line in sheet.lines():
        for found in IN_TEXT.finditer(line):
            place = re.search(before, line[: found.start()].rstrip(" ("))
            # behind a list of names a unit is the last one's; it is another's only where it can be
            if place and (
                not place["others"] or found[1].lower().replace(" ", "") in RANGES.get(analyte, {})
            ):
                return found[1], "the README says so"
    return "", ""


def _unit(
    draft: Draft, code: str, analyte: str, unit: str, why: str, sources: dict[str, int] | None = None
) -> None:
    """[units] of a code with its range, where the unit is told; a question where it is not."""
    allowed = RANGES.get(analyte, {})
    ends = allowed.get(unit.lower().replace(" ", ""))
    if ends:
        keys = {"to": unit, **({"from": sources} if sources else {}), "range": list(ends)}
        draft.units.setdefault(
            code, (f"{code} is in {unit}: {why}. Beyond the range lies what cannot be", keys)
        )
    elif allowed and not unit:
        choice = " or ".join(sorted(allowed))
        draft.units.setdefault(
            code, (f"ASK: units: {code}: in {choice}? nothing says it; no value is refused", {})
        )


# Standard formats


def _format(folder: Path) -> str | None:
    """meds, omop or fhir, by what lies in the folder; None: neither."""
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    tables = {p.name.lower().partition(".")[0] for p in files if p.name.lower().endswith((*CSV, ".parquet"))}
    if "person" in tables and tables & {
        "condition_occurrence",
        "visit_occurrence",
        "measurement",
        "drug_exposure",
    }:
        return "omop"
    shards = sorted((folder / "data").rglob("*.parquet")) or [p for p in files if p.suffix == ".parquet"]
    with suppress(pl.exceptions.PolarsError, OSError):
        if shards and {"subject_id", "time", "code"} <= pl.read_parquet_schema(shards[0]).keys():
            return "meds"
    for path in files:
        if re.search(r"\.(json|ndjson)(\.gz)?$", path.name):
            opener: Any = gzip.open if path.suffix == ".gz" else open
            with opener(path, "rt", encoding="utf-8", errors="replace") as handle:
                if '"resourceType"' in handle.read(1 << 16):
                    return "fhir"
    return None


def _standard(draft: Draft, form: str) -> None:
    """A folder of a standard format: kinds by the families of its codes, day 0 and death by what it has."""
    door = import_module(f"gnnpatient.cohort.readers.{form}").read(draft.folder)
    assert isinstance(door, Door)
    draft.form, draft.left = form, list(door.flags)
    if not len(door.people):
        raise Refused(f"{draft.folder}: {form}, but no patient in it; are the patients in another folder?")
    people, codes, keys = door.people, _counted(door), draft.patient.keys
    words = {c: people[c].drop_nulls().n_unique() for c, t in people.schema.items() if t == pl.String}
    keys["number"] = ["age"] if people["birth"].drop_nulls().len() else []
    # how somebody was when the data were exported is no static
    now = ("id", "split", "deceased", "marital")
    keys["category"] = [c for c, n in words.items() if 2 <= n <= WORDS and c not in now]
    _span(draft, people, set(codes["family"]))
    _families(draft, door, codes)
    _death(draft, codes)


def _counted(door: Door) -> pl.DataFrame:
    """By table and code: family, patients, timed (those with a time), units by frequency, mixed, telling."""
    parts = []
    for name, table in door.tables.items():
        schema = table.collect_schema()
        rows = table.filter(pl.col("refused").is_null()) if "refused" in schema else table
        unit = pl.col("unit") if "unit" in schema else pl.lit(None, dtype=pl.String).alias("unit")
        counted = (
            rows.filter(pl.col("code").is_not_null())
            .group_by("code")
            .agg(
                pl.col("id").n_unique().alias("patients"),
                pl.col("id").filter(pl.col("time").is_not_null()).n_unique().alias("timed"),
                unit.drop_nulls().sort().value_counts(sort=True).struct.field("unit").alias("units"),
            )
        )
        parts.append(counted.with_columns(pl.lit(name).alias("table")))
    lower = pl.col("units").list.eval(pl.element().str.to_lowercase())
    frame = pl.concat(parts, how="vertical_relaxed").with_columns(
        pl.coalesce(pl.col("code").str.extract(r"^(.+?)//", 1), "code").alias("family"),
        (lower.list.n_unique() > 1).alias("mixed"),
        pl.col("code").str.contains(TELLS_DEATH).alias("telling"),
    )
    return frame.sort("table", "code").collect(engine="streaming")


def _span(draft: Draft, people: pl.DataFrame, families: set[str]) -> None:
    """Day 0 and the end of observation."""
    keys, said = draft.patient.keys, draft.patient.said
    starts = [f for f in ("HOSPITAL_ADMISSION", "VISIT", "ENCOUNTER") if f in families]
    part = {c: people[c].null_count() / len(people) for c in people.columns}  # without it
    given = [c for c in ("observation_start", "first") if part.get(c, 1) <= 0.1]
    if given[:1] == ["observation_start"] or (given and not starts):
        keys["origin"] = given[0]
        said.append(f"ASK: patient.origin: is {given[0]} day 0? patients without one are left out")
    else:
        code = f"{starts[0]}//*" if starts else "*"
        keys["origin"] = {"code": code, "pick": "first"}
        said.append(f"ASK: patient.origin: is the first {code} day 0? patients without one are left out")
    ends = "observation_end" in people.columns and keys["origin"] == "observation_start"
    keys["exit"] = "observation_end" if ends else {"code": "*", "pick": "last"}
    until = "observation_end" if ends else "their last event"
    said.append(f"ASK: patient.exit: are patients observed until {until}?")


def _families(draft: Draft, door: Door, codes: pl.DataFrame) -> None:
    """Kinds of node by the first part of the codes; what tells a death is left out of them."""
    own = pl.col("code").str.contains(DEATH_ITSELF) | pl.col("code").str.starts_with("MEDS_BIRTH")
    codes = codes.filter(~own, pl.col("timed") > 0)
    kinds: dict[str, list[str]] = {}
    for (family,), rows in codes.group_by("family", maintain_order=True):
        kind = next(k for k, (names, _) in FAMILIES.items() if re.match(names, family))
        lost = rows["telling"] | (rows["mixed"] & (rows["patients"] < FEW))
        shown = rows.filter(~lost, pl.col("patients") >= FEW)["code"].to_list()
        if family == "DRG":
            draft.left.append(f"{family}: billed after the stay that it groups")
        elif rows["patients"].max() < FEW and len(rows) < FEW:  # type: ignore[operator]
            draft.left.append(f"{kind}: codes of fewer than {FEW} patients")
        elif not lost.any():
            kinds.setdefault(kind, []).append(family if rows["code"][0] == family else f"{family}//*")
        else:
            odd = int((lost & ~rows["telling"]).sum())
            why = f"{int(rows['telling'].sum())} code(s) that tell a death, {odd} rare one(s) in two units"
            draft.left.append(f"{family}: {why}; beside them what fewer than {FEW} patients have")
            if odd or not _by_category(draft, door, rows["table"][0], family, kind):
                kinds.setdefault(kind, []).extend(shown)
    for kind, patterns in sorted(kinds.items(), key=lambda item: list(FAMILIES).index(item[0])):
        draft.node(kind, {"where": {"code": patterns} if patterns else {}, "edges": FAMILIES[kind][1]})
    draft.nodes = {k: block for k, block in draft.nodes.items() if block.keys["where"]}
    for code, units in codes.filter("mixed", pl.col("patients") >= FEW).select("code", "units").iter_rows():
        if code not in draft.units:
            _several(draft, code, units)


def _by_category(draft: Draft, door: Door, table: str, family: str, kind: str) -> bool:
    """The rows of a family by their category, where that keeps apart what tells a death."""
    if "category" not in door.tables[table].collect_schema():
        return False
    rows = door.tables[table].filter(pl.col("category").is_not_null()).group_by("category")
    found = rows.agg(
        pl.col("id").n_unique().alias("n"), pl.col("code").str.contains(TELLS_DEATH).any().alias("t")
    )
    kept = found.filter(~pl.col("t"), pl.col("n") >= FEW).collect()["category"].sort().to_list()
    if kept:
        where = {"code": f"{family}//*", "category": kept}
        draft.node(kind, {"table": table, "where": where, "edges": FAMILIES[kind][1]})
    return bool(kept)


def _death(draft: Draft, codes: pl.DataFrame) -> None:
    """Death where the format has it; else, as a question, the condition that most patients have."""
    dead = codes.filter(pl.col("code").str.contains(DEATH_ITSELF), pl.col("timed") > 0)
    if len(dead):
        where = {"code": dead["code"].unique().sort().to_list()}
        said = f"{dead['timed'].sum()} patients have a time of death"
        keys = {"kind": "survival", "causes": {"death": {"where": where}}}
        draft.outcome("death", "is everybody's death known here, also after the last stay?", keys, said)
        return
    ill = codes.filter(pl.col("family").str.contains("^(DIAGNOSIS|CONDITION)"), pl.col("timed") >= 20)
    ill = ill.sort(["patients", "code"], descending=[True, False]).head(1)
    kind = next((k for k in draft.nodes if k.startswith("diagnosis")), None)
    for code, patients in ill.select("code", "patients").iter_rows() if kind else []:
        name = _slug(re.sub(r"^.*//\d*\s*", "", code), "diagnosis")
        keys = {"kind": "survival", "causes": {name: {"node": kind, "codes": [code]}}}
        said = f"nobody has a time of death; {patients} patients have this condition at some time"
        draft.outcome(
            name, "the most frequent condition keeps the place; what is to be predicted?", keys, said
        )
