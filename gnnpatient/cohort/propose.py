"""A first draft of a spec from a folder of tables: what was found, why, and what only its owner can say.

Everything here is a guess by names and by numbers, and the draft says so beside each one. Nothing of a patient
is written but names of codes and of states, and words only where at least five patients share them.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from itertools import combinations, product
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
TELLING = 0.95  # rank AUC for an outcome from which on a column is taken to know it

# Names are compared in lower case without signs: `Subject ID` is subjectid.
KEYS = """patientid subjectid usubjid personid pid id patient subject randid patnr ptid mrn patientunitstayid
icustayid stayid hadmid admissionid encounterid caseid sno nr""".split()
PERSON = re.compile(r"^(num|fac)?(age|ageyears|agey|sex|gender|race|ethnicity)$")
GROUP = re.compile(r"^(unique|person|people|famil|household|match|pair|set|case)")
SITE = re.compile(r"hospital|center|centre|site|clinic|institution|^ward")
NOMINAL = re.compile(r"sex|gender|race|ethnic|center|centre|site|arm$|^trt|treat|group|type$")
COUNTER = re.compile(r"^(period|visit|visitno|visitnum|visitnumber|exam|wave|seq|enum)$")

FOLLOWED = re.compile(r"time|offset|tte$|follow|^(days|weeks|months|years)$|survdays|os$|pfs$")
NOT_FOLLOWED = re.compile(r"start|diag|onset|admit|birth|entry|age|random")
TOKENS = re.compile(r"follow(up)?|time(to)?|offset|tte$|dur(ation)?|^fu|days?$|weeks?$|months?$|years?$|^surv")
FLAG = re.compile(r"status|stat\d*$|event|flag|indicator|label|outcome|endpoint|cens(or(ed)?)?$")
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
GIVES_DEATH_AWAY = re.compile(r"(?i)death|died|dead\b|deceas|expired|hospice")

WHEN = (  # names of the time of a row, the better ones first
    r"^(time|times|day|days|date|datetime|charttime|timestamp|tstart|start|year|month|week|hour)$",
    r"start|drawn|taken|collect|visit|effective|obs",
    r"(time|date|day|days|offset|delay|dt|dtm)$",
)
KNOWN = re.compile(r"result|report|sign|known|issued|revised|enter|record|stor(e|ed)time|verif")
UNTIL = re.compile(r"stop|end|until|abate|^time2$|discharge|outtime")
CODES = (
    r"^(code|concept|itemid|paramcd|testcd)$",
    r"^(test|analyte|item|parameter|variable|measurement)$|labname$|testname$",
    r"string$|path$",
    r"drugname$|^drug$|medication$",
    r"name$",
    r"^(event|diagnosis|condition|procedure|treatment|label)$|^icd|code$|dx$",
)
VALUE = re.compile(r"^(val|aval|amount|quantity|reading)$|result$|value$|valuenum$|valueasnumber$")
UNIT = re.compile(r"units?$|uom$|measurename")
MEANS = {"drug": "drug|medic", "diagnosis": "diag|dx|icd|condition", "treatment": "treat", "procedure": "proc"}

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
SPELLED = {"min": "min(ute)?s?", "h": "h(ou)?rs?", "d": "days?", "w": "w(ee)?ks?", "mo": "mo(nth)?s?", "y": "y(ea)?rs?"}

FAMILIES = {  # kind: beginnings of the codes of a standard format, and its edges
    "lab": (r"LAB|MEASUREMENT|OBSERVATION|VITAL|Blood Pressure|Weight|Height|BMI|SUBJECT_", ("at", "same")),
    "drug": (r"DRUG|MEDICATION|INFUSION|IMMUNIZATION", ("at",)),
    "diagnosis": (r"DIAGNOSIS|CONDITION|ICD|ALLERGY", ("at",)),
    "procedure": (r"PROCEDURE|HCPCS|CPT|IMAGING|DEVICE|DIAGNOSTICREPORT", ("at",)),
    "stay": (r"VISIT|ENCOUNTER|HOSPITAL|ICU|ED_|TRANSFER|ADMISSION|DISCHARGE", ("at", "next")),
}  # fmt: skip


def propose(folder: Path) -> str:
    """The text of a TOML that `read_spec` takes, with its reasons and its questions (`# ASK:`) as comments.

    Of a table the first 200 000 rows are looked at. The same folder gives the same text.

    Refused: no folder, no table in it, no column that could be a patient's id.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise Refused(f"{folder}: no such folder; name the one with the tables")
    form = _format(folder)
    draft = Draft(folder)
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


def _said(words: str) -> str:
    """Words for a comment: one line, no control characters."""
    return "".join(c if c.isprintable() else " " for c in words)


def plain(name: str) -> str:
    """A name as it is compared.

    >>> plain("Subject ID")
    'subjectid'
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _slug(words: str, fallback: str) -> str:
    """As the name of a kind or an outcome."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "_", words).strip("_-").lower()[:40]
    slug = slug if re.match(r"[a-z]", slug) else f"{fallback}_{slug}".rstrip("_")
    return f"{slug}_" if slug in ("patient", "timepoint", "censored", "event_free") else slug


@dataclass
class Draft:
    """The parts of the draft, as lines, in the order in which they are written."""

    folder: Path
    top: list[str] = field(default_factory=list)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    patient: list[str] = field(default_factory=list)
    every: str = "1d"
    units: dict[str, str] = field(default_factory=dict)  # code: its line
    nodes: dict[str, list[str]] = field(default_factory=dict)
    outcomes: dict[str, list[str]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)  # what is not in it, and why

    @cached_property
    def readme(self) -> str:
        """What stands beside the tables, or above them."""
        for place in (self.folder, self.folder.resolve().parent, self.folder.resolve().parent.parent):
            for path in sorted(place.glob("[Rr][Ee][Aa][Dd][Mm][Ee]*")):
                if path.is_file():
                    return path.read_text(encoding="utf-8", errors="replace")[:100_000]
        return ""

    def note(self, *words: str) -> None:
        self.left += [f"# {line}" for line in words]

    def free(self, names: Iterable[str], wanted: str) -> str:
        """The name, or the name with the first number that makes it free."""
        more = (f"{wanted}{i}" for i in range(2, 1000))
        return next(name for name in (wanted, *more) if name not in names)

    def text(self) -> str:
        name = self.folder.resolve().name or "cohort"
        lines = ["# A draft by gnnpatient init. Read every line; those that begin with ASK are yours to answer."]
        lines += [*self.top, f"cohort = {_toml(name)}"]
        lines += ["# ASK: source: where do the tables come from, under which licence?", 'source = ""', ""]
        if "format" in self.tables:
            lines[-1:] = [f"format = {_toml(self.tables.pop('format')['format'])}", ""]
        for table, how in self.tables.items():
            if how:
                lines += [f"[tables.{_key(table)}]", *(f"{k} = {_toml(v)}" for k, v in how.items()), ""]
        lines += ["[patient]", *self.patient, "", "[timepoints]", f"every = {_toml(self.every)}", ""]
        if self.units:
            lines += ["[units]", *self.units.values(), ""]
        for place, blocks in (("nodes", self.nodes), ("outcomes", self.outcomes)):
            for name, block in blocks.items():
                head = [line for line in block if line.startswith("#")]
                lines += [*head, f"[{place}.{name}]", *(line for line in block if line not in head), ""]
        if not self.outcomes:
            lines += ["# ASK: outcomes: none was recognised; what is to be predicted? add [outcomes.NAME]", ""]
        if self.left:
            lines += ["# Left out:", *self.left, ""]
        return "\n".join(_said(line) for line in lines).rstrip() + "\n"


# Tables as they are found


@dataclass
class Sheet:
    """The first rows of a table: as they stand, and as numbers where they are numbers."""

    name: str
    raw: pl.DataFrame
    cells: pl.DataFrame  # Float64 (of dates and durations: days) or String; null = missing
    kind: dict[str, str]  # number, date, duration, text, mixed (numbers and a few words), empty
    form: dict[str, str]  # how dates are written where that is not ISO 8601
    how: dict[str, Any]  # the keys of [tables.NAME]
    unsure: set[str] = field(default_factory=set)  # columns whose day could be the month
    key: str = ""

    @cached_property
    def who(self) -> pl.Series:
        return ids(self.raw[self.key]).alias("who")

    @cached_property
    def people(self) -> pl.DataFrame:
        """A row a patient: `who`, and the first value of each column."""
        keyed = self.cells.with_columns(self.who.alias("\0who")).filter(pl.col("\0who").is_not_null())
        return keyed.group_by("\0who", maintain_order=True).agg(pl.all().drop_nulls().first())

    @cached_property
    def constant(self) -> set[str]:
        """Columns that do not change within a patient."""
        keyed = self.cells.with_columns(self.who.alias("\0who")).filter(pl.col("\0who").is_not_null())
        same = keyed.group_by("\0who").agg((pl.all().min() == pl.all().max()).fill_null(True)).drop("\0who")
        return {name for name in same.columns if same[name].all()} - {self.key}

    @property
    def unique(self) -> bool:
        """Whether a row is a patient."""
        return self.who.n_unique() == len(self.who)

    @property
    def whole(self) -> bool:
        """Whether it says who the patients are."""
        return any(PERSON.match(plain(name)) for name in self.constant)

    def numbers(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.kind[name] == "number"]

    def words(self, name: str) -> pl.Series:
        """Cells as the states of an outcome are compared: 1.0 is 1."""
        return text(self.raw[name]).str.replace(r"^(-?\d+)\.0+$", "$1")

    def states(self, name: str) -> dict[str, int]:
        """How many patients have each word, of a column with few."""
        frame = pl.DataFrame({"who": self.who, "word": self.words(name)}).drop_nulls().unique()
        count = frame.group_by("word").len().sort("word")
        return dict(count.iter_rows()) if len(count) <= WORDS else {}


def _names(folder: Path, inside: str = "") -> list[str]:
    """The tables of a folder, and of the folders in it; one of alike shards is a table."""
    found: list[str] = []
    for path in sorted((folder / inside).iterdir()):
        name = f"{inside}{path.name}"
        if path.name.startswith("."):
            continue
        if path.is_file() and path.name.endswith((*CSV, ".parquet")):
            found.append(name)
        elif path.is_dir() and not inside:
            shards = sorted(path.rglob("*.parquet"))
            alike = shards and len({str(pl.read_parquet_schema(s)) for s in shards}) == 1
            found += [name] if alike and len(shards) > 1 else _names(folder, f"{name}/")
    return found


def _sheet(folder: Path, name: str) -> Sheet:
    """Refused in the words of polars where the file cannot be read."""
    path, how = folder / name, {}
    typed = not name.endswith(CSV)
    try:
        if not typed:
            how, raw = _csv(path)
        elif path.is_dir():
            raw = pl.scan_parquet(sorted(path.rglob("*.parquet"))).head(ROWS).collect()
        else:
            raw = pl.scan_parquet(path).head(ROWS).collect()
    except (pl.exceptions.PolarsError, OSError, EOFError, UnicodeError) as error:
        raise Refused(f"{name}: not read: {(str(error).splitlines() or [type(error).__name__])[0]}") from None
    sheet = Sheet(name, raw, raw, {}, {}, how)
    if how.get("decimal") == ",":
        comma = pl.col(pl.String).str.replace(r"^\s*(-?\d+),(\d+)\s*$", "$1.$2")
        raw = raw.with_columns(comma)
    sheet.cells = pl.DataFrame([_cells(sheet, raw[column], typed) for column in raw.columns])
    return sheet


def _csv(path: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    """How a CSV is written, and its first rows."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    encoding, how = "utf-8", {}
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as handle:
            head = handle.readline()
            while handle.read(1 << 20):
                pass
    except UnicodeError:
        encoding = how["encoding"] = "latin1"
        with opener(path, "rt", encoding=encoding, newline="") as handle:
            head = handle.readline()
    separator = max(",;\t|", key=head.count)
    if separator != ("\t" if ".tsv" in path.name else ","):
        how["separator"] = separator
    raw = pl.read_csv(path, separator=separator, encoding=encoding, infer_schema=False, n_rows=ROWS)
    if doubled := next((name for name in raw.columns if "_duplicated_" in name), None):
        raise OSError(f"column {doubled.partition('_duplicated_')[0]!r} stands twice in the header")
    if separator != ",":
        comma = pl.all().str.contains(r"^-?\d+,\d+$").fill_null(False)
        odd = pl.all().str.contains(r"^\s*-?\d+(,\d+)?\s*$").fill_null(True) & pl.all().ne("").fill_null(True)
        some, every = raw.select(comma.any()), raw.select(odd.all())
        if any(some[c][0] and every[c][0] for c in raw.columns):
            how["decimal"] = ","
    return how, raw


def _cells(sheet: Sheet, cells: pl.Series, typed: bool) -> pl.Series:
    """A column as numbers, days or words; what it is goes into sheet.kind."""
    name, day = cells.name, DAY * 1.0
    if cells.dtype.is_temporal() and cells.dtype != pl.Time:
        sheet.kind[name] = "duration" if cells.dtype == pl.Duration else "date"
        origin = None if cells.dtype == pl.Duration else pl.zeros(len(cells), dtype=pl.Int64, eager=True)
        return (moment(cells, origin, name)[0].cast(pl.Float64) / day).alias(name)
    if cells.dtype.is_numeric() or cells.dtype == pl.Boolean:
        sheet.kind[name] = "number"
        return number(cells)[0].alias(name)
    words = text(cells.cast(pl.String, strict=False))
    given = max(len(words) - words.null_count(), 1)
    value, odd = number(words)
    form = None if typed else _form_of(sheet, name, words.drop_nulls())
    iso = words.str.contains(r"^\d{4}-\d\d-\d\d([T ]|$)").sum() or 0
    if words.null_count() == len(words):
        sheet.kind[name] = "empty"
    elif form is not None or iso >= 0.9 * given:
        origin, how = pl.zeros(len(cells), dtype=pl.Int64, eager=True), TimeSpec(format=form)
        days = moment(words.set(~words.str.contains(r"^\d"), None), origin, name, how)[0]
        sheet.kind[name], sheet.form[name] = "date", form or ""
        return (days.cast(pl.Float64) / day).alias(name)
    elif not typed and odd.sum() <= 0.1 * given:
        sheet.kind[name] = "mixed" if odd.any() else "number"
        return value.alias(name)
    else:
        sheet.kind[name] = "text"
    return words.alias(name)


def _form_of(sheet: Sheet, name: str, words: pl.Series) -> str | None:
    """The strptime format of dates that are not ISO 8601; day first where nothing tells, and then it is asked."""
    shape = re.compile(r"(\d{1,2})([./-])(\d{1,2})[./-]\d{4}(?P<clock> \d{1,2}:\d{2}(?P<s>:\d{2})?)?")
    if not len(words):
        return None
    first = words[0].strip()
    if re.fullmatch(r"\d{1,2}-[A-Za-z]{3}-\d{4}", first):
        return "%d-%b-%Y"
    if "dat" in plain(name) and words.str.contains(r"^(19|20)\d\d[01]\d[0-3]\d$").all():
        return "%Y%m%d"
    if not (found := shape.fullmatch(first)):
        return None
    sign = found[2]
    parts = words.str.extract_groups(r"^(\d{1,2})[./-](\d{1,2})").struct
    left, right = (parts.field(str(i)).cast(pl.Int64, strict=False) for i in (1, 2))
    swapped = bool((right > 12).any())
    if swapped and (left > 12).any():
        return None
    if not swapped and not (left > 12).any():
        sheet.unsure.add(name)
    clock = ("" if not found["clock"] else " %H:%M") + (":%S" if found["s"] else "")
    return (f"%m{sign}%d{sign}%Y" if swapped else f"%d{sign}%m{sign}%Y") + clock
