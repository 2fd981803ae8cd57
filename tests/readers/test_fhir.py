"""FHIR R4: every way to write a thing gives one row of it, and nothing broken passes in silence."""

import gzip
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from gnnpatient.errors import InputError

LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
NOON = "2021-03-04T12:00:00Z"


def patient(id: str = "p1", **more) -> dict:
    return {"resourceType": "Patient", "id": id, "gender": "female", "birthDate": "1960-01-01"} | more


def coded(code: str, display: str | None = None, system: str = LOINC) -> dict:
    return {"coding": [{"system": system, "code": code} | ({"display": display} if display else {})]}


def event(kind: str = "Observation", id: str | None = "e1", **more) -> dict:
    """A resource that makes one row; a field given as None is left out."""
    base = {"resourceType": kind, "id": id, "subject": {"reference": "Patient/p1"}, "code": coded("1", "CRP")}
    if kind == "Observation":
        base["effectiveDateTime"] = NOON
    return {name: value for name, value in (base | more).items() if value is not None}


def bundle(*resources: dict, urls: tuple[str, ...] = ()) -> dict:
    entries = [{"resource": resource} for resource in resources]
    for entry, url in zip(entries, urls, strict=False):
        entry["fullUrl"] = url
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


@pytest.fixture
def read_fhir(tmp_path):
    """Read resources (lines of one bulk export), or files by name."""

    def read_(*resources: dict, **files: object):
        from gnnpatient.readers.fhir import read

        files = {"all.ndjson": "\n".join(map(json.dumps, resources))} if resources else files
        for name, content in files.items():
            path = tmp_path / name.replace("__", ".")
            text = content if isinstance(content, str | bytes) else json.dumps(content)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(tmp_path)

    return read_


def rows(standard, kind: str = "Observation") -> list[dict]:
    return standard.tables[kind].collect().to_dicts()


def only(standard, kind: str = "Observation") -> dict:
    (row,) = rows(standard, kind)
    return row


# The contract


def test_a_result_becomes_a_row(read_fhir):
    found = read_fhir(
        patient(),
        event(
            valueQuantity={"value": 12.1, "unit": "mg per L", "code": "mg/L"},
            issued="2021-03-04T15:30:00.5+01:00",
            category=[coded("laboratory")],
            encounter={"reference": "Encounter/v9"},
        ),
    )
    assert only(found) == {
        "id": "p1",
        "time": datetime(2021, 3, 4, 12),
        "time_bare": False,
        "known": datetime(2021, 3, 4, 14, 30, 0, 500000),
        "known_bare": False,
        "until": None,
        "until_bare": None,
        "code": "OBSERVATION//1 CRP",
        "value": 12.1,
        "unit": "mg/L",
        "text": None,
        "category": "laboratory",
        "encounter": "v9",
        "resource": "e1",
        "refused": None,
    }
    assert not found.flags


def test_every_table_is_there_with_the_same_types(read_fhir):
    found = read_fhir(patient())
    shapes = {kind: dict(table.collect_schema()) for kind, table in found.tables.items() if kind != "Patient"}
    assert len(shapes) == 11 and shapes["Encounter"].pop("class") == pl.String
    for kind, shape in shapes.items():
        shape.pop("category", None)
        assert shape == shapes["Encounter"], kind
        assert not len(found.tables[kind].collect())
    times = {name for name, dtype in shapes["Encounter"].items() if dtype == pl.Datetime("us")}
    assert times == {"time", "known", "until"}


WAYS = [
    "bundle.json",
    "bundle.json.gz",
    "one file each",
    "all.ndjson",
    "all.ndjson.gz",
    "all.jsonl",
    "windows",
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chunk", [1 << 16, 2])
def test_the_packing_is_nothing(read_fhir, tmp_path, monkeypatch, way, chunk):
    from gnnpatient.readers import fhir

    monkeypatch.setattr("gnnpatient.readers.fhir.events.CHUNK", chunk)
    what = [patient(), *(event(id=f"e{i}", valueInteger=i) for i in range(7)), event("Condition", "c")]
    lines = "\n".join(map(json.dumps, what)).encode()
    if way == "one file each":
        (tmp_path / "deep" / "er").mkdir(parents=True)
        for i, resource in enumerate(what):
            (tmp_path / "deep" / "er" / f"{i}.JSON").write_text(json.dumps(resource))
        found = fhir.read(tmp_path)
    elif way == "windows":
        found = read_fhir(**{"all.ndjson": b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n\r\n") + b"\r\n"})
    else:
        content = json.dumps(bundle(*what)).encode() if way.startswith("bundle") else lines
        found = read_fhir(**{way: gzip.compress(content) if way.endswith(".gz") else content})
    assert [(row["id"], row["value"]) for row in rows(found)] == [("p1", float(i)) for i in range(7)]
    assert len(rows(found, "Condition")) == 1 and len(found.people) == 1 and not found.flags


# Whose it is


URLS = ("urn:uuid:6f1c", "http://a.org/fhir/Observation/e1")
SAME = [
    ("Patient/p1", ()),
    ("Patient/p1/_history/3", ()),
    ("https://any.org/fhir/Patient/p1", ()),
    ("urn:uuid:6f1c", URLS),
    ("http://a.org/fhir/Patient/p1", ("http://a.org/fhir/Patient/p1",)),
    ("http://a.org/fhir/Patient/p1/_history/3", ("http://a.org/fhir/Patient/p1",)),
]


@pytest.mark.parametrize(("reference", "urls"), SAME)
def test_all_references_to_a_patient_lead_to_it(read_fhir, reference, urls):
    found = read_fhir(a__json=bundle(patient(), event(subject={"reference": reference}), urls=urls))
    assert (only(found)["id"], only(found)["refused"]) == ("p1", None)


def test_a_patient_without_an_id_has_that_of_its_full_url(read_fhir):
    nameless = {k: v for k, v in patient().items() if k != "id"}
    who = {"reference": "urn:uuid:6f1c"}
    found = read_fhir(a__json=bundle(nameless, event(subject=who), urls=("urn:uuid:6f1c",)))
    assert found.people["id"].to_list() == ["6f1c"] == [only(found)["id"]]


def test_a_urn_is_looked_for_in_its_own_bundle_first_and_nowhere_if_it_is_two(read_fhir):
    who = {"reference": "urn:uuid:1"}
    first = bundle(patient("p1"), event(id="e1", subject=who), urls=("urn:uuid:1",))
    second = bundle(patient("p2"), event(id="e2", subject=who), urls=("urn:uuid:1",))
    found = read_fhir(a__json=first, b__json=second, c__json=event(id="e3", subject=who))
    assert [row["id"] for row in rows(found)] == ["p1", "p2", None]
    assert rows(found)[2]["refused"] == "patient not in the data"


def test_a_urn_may_lead_to_a_patient_of_another_file(read_fhir):
    event_ = event(subject={"reference": "urn:uuid:1"})
    found = read_fhir(b__json=bundle(patient(), urls=("urn:uuid:1",)), a__json=bundle(event_))
    assert only(found)["id"] == "p1"


STRAY = [  # subject, and why the row is refused
    (None, "no patient"),
    ({}, "no patient"),
    ({"display": "somebody"}, "no patient"),
    ("Patient/p1", "no patient"),
    ({"reference": "Patient/p2"}, "patient not in the data"),
    ({"reference": "Patient/P1"}, "patient not in the data"),
    ({"reference": "Patient/p1 "}, None),
    ({"reference": "Patient?identifier=p1"}, "patient not in the data"),
    ({"reference": "urn:uuid:p1"}, "patient not in the data"),
    ({"reference": "http://b.org/Patient/p1"}, "patient not in the data"),  # known from a.org
    ({"reference": "p1"}, "patient not in the data"),
    ({"reference": "#inside"}, "patient not in the data"),
    ({"reference": "#ward"}, "subject is not a patient"),
    ({"reference": "Group/p1"}, "subject is not a patient"),
    ({"reference": "Device/p1"}, "subject is not a patient"),
    ({"reference": "urn:uuid:group"}, "subject is not a patient"),
]


@pytest.mark.parametrize(("subject", "why"), STRAY)
def test_an_event_is_never_given_to_another_patient(read_fhir, subject, why):
    inside = [{"resourceType": "Patient", "id": "inside"}, {"resourceType": "Group", "id": "ward"}]
    group = {"resourceType": "Group", "id": "p1"}
    urls = ("http://a.org/Patient/p1", "urn:uuid:group")
    row = only(
        read_fhir(a__json=bundle(patient(), group, event(subject=subject, contained=inside), urls=urls))
    )
    assert (row["id"], row["refused"]) == (None if why else "p1", why)


STATUS = [
    ("Observation", {"status": "entered-in-error"}, "entered in error"),
    ("Observation", {"status": "cancelled"}, "cancelled"),
    ("Observation", {"status": "preliminary"}, None),
    ("Condition", {"verificationStatus": coded("entered-in-error")}, "entered in error"),
    ("Condition", {"verificationStatus": coded("refuted")}, "refuted"),
    ("Condition", {"verificationStatus": coded("confirmed")}, None),
    ("Procedure", {"status": "not-done"}, "not done"),
    ("Encounter", {"status": "planned", "type": [coded("1")]}, "planned"),
    ("MedicationRequest", {"doNotPerform": True, "medicationCodeableConcept": coded("1")}, "not to be done"),
    ("MedicationStatement", {"status": "not-taken", "medicationCodeableConcept": coded("1")}, "not taken"),
]


@pytest.mark.parametrize(("kind", "more", "why"), STATUS)
def test_what_never_happened_is_refused(read_fhir, kind, more, why):
    assert only(read_fhir(patient(), event(kind, **more)), kind)["refused"] == why


DRUG = {"medicationCodeableConcept": coded("1")}
NO_FACT = [
    ("MedicationRequest", {"intent": "proposal", **DRUG}, "intent", "a proposal, not an order"),
    ("MedicationRequest", {"intent": "plan", **DRUG}, "intent", "a plan, not an order"),
    ("MedicationRequest", {"intent": "option", **DRUG}, "intent", "an option, not an order"),
    ("MedicationRequest", {"intent": "order", **DRUG}, "intent", None),
    ("MedicationRequest", {"intent": "reflex-order", **DRUG}, "intent", None),
    ("Condition", {"verificationStatus": coded("provisional")}, "verification", "a provisional diagnosis"),
    ("Condition", {"verificationStatus": coded("differential")}, "verification", "a differential diagnosis"),
    ("Condition", {"verificationStatus": coded("unconfirmed")}, "verification", None),
    ("Observation", {"focus": [{"reference": "RelatedPerson/f"}]}, "focus", "about somebody else (focus)"),
    ("Observation", {"focus": [{"reference": "Patient/fetus"}]}, "focus", "about somebody else (focus)"),
    ("Observation", {"focus": [{"display": "fetus"}]}, "focus", "about somebody else (focus)"),
    ("Observation", {"focus": [{"reference": "#f"}]}, "focus", "about somebody else (focus)"),
    ("Observation", {"focus": [{"reference": "Patient/p1"}]}, "focus", None),
    ("Observation", {"focus": [{"reference": "BodyStructure/tumour"}]}, "focus", None),
    ("Procedure", {"focus": {"reference": "Group/donors"}}, "focus", "about somebody else (focus)"),
]


@pytest.mark.parametrize(("kind", "more", "column", "why"), NO_FACT)
def test_what_is_no_fact_about_the_patient_is_refused_and_may_be_chosen(tmp_path, kind, more, column, why):
    """Counted by its reason; used where the spec names the column that tells it apart."""
    from gnnpatient import read_cohort

    times = {"Condition": "recordedDate", "MedicationRequest": "authoredOn", "Procedure": "performedDateTime"}
    time = {times[kind]: NOON} if kind in times else {}
    inside = [{"resourceType": "RelatedPerson", "id": "f"}]
    here = event(kind, **more, **time, contained=inside)
    marker = event(
        kind, id="e2", code=coded("2", "X"), **DRUG | {"medicationCodeableConcept": coded("2")}, **time
    )
    stay = event("Encounter", id="v1", type=[coded("9")], period={"start": "2021-03-01T00:00:00Z"})
    lines = map(json.dumps, (patient(), here, marker, stay))
    (tmp_path / "all.ndjson").write_text("\n".join(lines))
    origin = 'origin = { code = "ENCOUNTER//*" }'
    spec = f'cohort = "c"\nformat = "fhir"\n[patient]\n{origin}\n[nodes.x]\ntable = "{kind}"\n'

    def read_(where: str):
        (tmp_path / "c.toml").write_text(spec + where)
        cohort = read_cohort(tmp_path / "c.toml", tmp_path)
        return len(cohort.events["x"]), cohort.report["tables"][kind]["refused"]

    assert read_("") == (1 + (why is None), {} if why is None else {why: 1})
    if why is not None:
        assert read_(f'where = {{ {column} = "*" }}')[0] == 1
        (tmp_path / "again.ndjson").write_text(json.dumps(here))  # chosen, a repeat is still a repeat
        assert read_(f'where = {{ {column} = "*" }}') == (1, {"repeat of a resource": 1} | OTHERS)


OTHERS = {"nothing in it that the spec asks for": 1}


IN_STAY = datetime(2021, 3, 9, 10)
DISCHARGED = [  # encounter, onset, recordedDate, when it is known (None: at its onset)
    ("Encounter/in", "2021-03-05", None, IN_STAY),
    ("Encounter/out", "2021-03-05", None, None),  # seen as an outpatient
    (None, "2021-03-05", None, IN_STAY),  # by its day
    ("Encounter/lost", "2021-03-01", None, IN_STAY),  # leads nowhere
    ("Encounter/other", "2021-03-08", None, IN_STAY),  # one of somebody else
    (None, "2021-03-10", None, None),  # in no stay
    ("Encounter/in", "2021-03-05", "2021-03-06", datetime(2021, 3, 6)),  # said when
    ("Encounter/in", "2021-03-05", "2021-03-05", None),
    ("Encounter/in", "2021-03-20", None, None),  # after it
]


@pytest.mark.parametrize(("encounter", "onset", "recorded", "known"), DISCHARGED)
def test_a_diagnosis_of_a_stay_is_known_at_its_end_where_nothing_says_when(
    read_fhir, encounter, onset, recorded, known
):
    def visit(id: str, kind: str, who: str = "p1") -> dict:
        period = {"start": "2021-03-01T08:00:00Z", "end": "2021-03-09T10:00:00Z"}
        who = {"reference": f"Patient/{who}"}
        return event("Encounter", id=id, period=period, subject=who, type=[coded("9")]) | {
            "class": {"code": kind}
        }

    visits = visit("in", "IMP"), visit("out", "AMB"), visit("other", "IMP", "p2")
    given = {"onsetDateTime": onset, "recordedDate": recorded}
    given["encounter"] = None if encounter is None else {"reference": encounter}
    found = read_fhir(patient(), patient("p2"), *visits, event("Condition", **given))
    row = only(found, "Condition")
    assert (row["known"], row["refused"]) == (known, None)
    told = [flag for flag in found.flags if "without recordedDate" in flag]
    assert len(told) == (recorded is None and onset != "2021-03-20" and encounter != "Encounter/out")


def test_a_diagnosis_of_a_stay_that_has_not_ended_is_refused(read_fhir):
    stay = event("Encounter", id="in", period={"start": "2021-03-01T08:00:00Z"}, type=[coded("9")])
    given = {"onsetDateTime": "2021-03-05", "encounter": {"reference": "Encounter/in"}}
    found = read_fhir(patient(), stay | {"class": {"code": "IMP"}}, event("Condition", **given))
    assert only(found, "Condition")["refused"] == "inpatient stay without an end"


@pytest.mark.parametrize("name", ["notDone", "notGiven", "wasNotGiven", "wasNotTaken", "notPerformed"])
def test_what_was_not_done_by_earlier_versions_is_refused(read_fhir, name):
    assert only(read_fhir(patient(), event(**{name: True})))["refused"] == "not done"
    assert only(read_fhir(patient(), event(**{name: False})))["refused"] is None


# What it is


def test_one_code_is_one_name_in_the_whole_folder(read_fhir):
    names = ["C reactive protein", "CRP", "CRP", "C  reactive\nprotein", None, "C reactive protein"]
    found = read_fhir(patient(), *(event(id=f"e{i}", code=coded("1988-5", n)) for i, n in enumerate(names)))
    assert {row["code"] for row in rows(found)} == {"OBSERVATION//1988-5 C reactive protein"}


TWO_SNOMED = [{"system": SNOMED, "code": code, "display": name} for code, name in (("2", "S"), ("3", "T"))]
CODES = [  # kind, field, concept, code
    (
        "Observation",
        "code",
        {"coding": [coded("x", "X", "a")["coding"][0], *coded("1", "L")["coding"]]},
        "1 L",
    ),
    (
        "Condition",
        "code",
        {"coding": [*coded("1", "L")["coding"], *coded("2", "S", SNOMED)["coding"]]},
        "2 S",
    ),
    ("Condition", "code", {"coding": [{"display": "no code"}, *coded("1", "L")["coding"]]}, "1 L"),
    ("Condition", "code", {"coding": [*coded("1", "L")["coding"], *TWO_SNOMED]}, "2 S"),
    ("Condition", "code", {"coding": [{"code": "7"}]}, "7"),
    ("Condition", "code", {"coding": [{"code": "7", "display": "7"}]}, "7"),
    ("Condition", "code", {"text": " weak  legs "}, "weak legs"),
    ("Condition", "code", {"coding": [], "text": "\x1b[31mred\x07"}, "[31mred"),
    ("Condition", "code", {"coding": [{"display": "no code"}]}, None),
    ("Condition", "code", {}, None),
    ("MedicationRequest", "medicationCodeableConcept", coded("5", "Aspirin", RXNORM), "5 Aspirin"),
    ("MedicationRequest", "medicationReference", {"display": "Aspirin"}, "Aspirin"),
    ("MedicationRequest", "medicationReference", {"reference": "#m"}, "6 Inside"),
    ("MedicationRequest", "medicationReference", {"reference": "Medication/m"}, "7 Later"),
    ("MedicationRequest", "medicationReference", {"reference": "https://a.org/Medication/m"}, "7 Later"),
    ("MedicationRequest", "medicationReference", {"reference": "Medication/none"}, None),
    ("Encounter", "type", [coded("3", "Check up")], "3 Check up"),
    ("Encounter", "class", {"code": "IMP", "display": "inpatient"}, "IMP inpatient"),
    ("Immunization", "vaccineCode", coded("140", "Influenza"), "140 Influenza"),
]


@pytest.mark.parametrize(("kind", "name", "concept", "code"), CODES)
def test_the_code_of_a_row(read_fhir, kind, name, concept, code):
    inside = [{"resourceType": "Medication", "id": "m", "code": coded("6", "Inside", RXNORM)}]
    later = {"resourceType": "Medication", "id": "m", "code": coded("7", "Later", RXNORM)}
    given = {"code": None, "contained": inside, "patient": {"reference": "Patient/p1"}, name: concept}
    row = only(read_fhir(patient(), event(kind, **given), later), kind)
    assert row["code"] == (code and f"{kind.upper()}//{code}")
    assert row["refused"] == (None if code else "no code")


def test_codes_of_two_systems_that_look_alike_are_flagged(read_fhir):
    found = read_fhir(
        patient(), event(code=coded("1", None, "a")), event(id="e2", code=coded("1", None, "b"))
    )
    assert found.flags == ("1 code(s) of two systems have one name",)


VALUES = [  # of an Observation; code after the name, value, unit, text, flag
    ({"valueQuantity": {"value": 0, "unit": "mg"}}, "", 0.0, "mg", None, None),
    (
        {"valueQuantity": {"value": 3, "comparator": "<", "code": "mg"}},
        "",
        3.0,
        "mg",
        "<3.0",  # the kind of node decides what becomes of a bound
        "with a comparator",
    ),
    ({"valueQuantity": {"value": 3, "code": "mg per litre"}}, "", 3.0, "mg per litre", None, "in words"),
    ({"valueQuantity": {"value": 3, "code": "{a b}"}}, "", 3.0, "{a b}", None, None),
    ({"valueQuantity": {"unit": "mg"}}, "", None, None, None, None),
    ({"valueQuantity": {"value": "3", "unit": "mg"}}, "", None, None, "3", "value(s) are text"),
    ({"valueQuantity": {"value": 10**400}}, "", None, None, str(10**400), "value(s) are text"),
    ({"valueInteger": 4}, "", 4.0, None, None, None),
    ({"valueBoolean": True}, "", 1.0, None, None, None),
    ({"valueBoolean": False}, "", 0.0, None, None, None),
    ({"valueCodeableConcept": coded("8", "Never smoker", SNOMED)}, "//Never smoker", None, None, None, None),
    ({"valueCodeableConcept": {"text": "grey"}}, "//grey", None, None, None, None),
    ({"valueCodeableConcept": {"coding": [{"code": "8"}]}}, "//8", None, None, None, None),
    ({"valueCodeableConcept": {}}, "", None, None, None, None),
    ({"valueString": "haemolysed"}, "", None, None, "haemolysed", "value(s) are text"),
    ({"valueDateTime": "2020"}, "", None, None, "2020", "value(s) are text"),
    ({"valueRatio": {"numerator": {"value": 1}}}, "", None, None, '{"numerator": {"value": 1}}', "are text"),
    ({"valueString": " "}, "", None, None, None, None),
    ({}, "", None, None, None, None),
    ({"valueInteger": 4, "dataAbsentReason": coded("error")}, "", None, None, None, None),
]


@pytest.mark.parametrize(("given", "code", "value", "unit", "text", "flag"), VALUES)
@pytest.mark.parametrize("part", [False, True])
def test_the_value_of_a_row(read_fhir, given, code, value, unit, text, flag, part):
    given = (
        {"code": coded("2", "Panel"), "component": [{"code": coded("1", "CRP")} | given]} if part else given
    )
    found = read_fhir(patient(), event(**given))
    row = only(found)
    assert row["code"] == f"OBSERVATION//1 CRP{code}"
    assert (row["value"], row["unit"], row["text"], row["refused"]) == (value, unit, text, None)
    assert len(found.flags) == (flag is not None) and (flag or "") in "".join(found.flags)


def test_components_are_rows_and_the_own_value_another(read_fhir):
    parts = [{"code": coded("s"), "valueInteger": 120}, {"code": coded("d"), "valueInteger": 80}, {}]
    found = rows(read_fhir(patient(), event(component=parts, valueInteger=7, code=coded("bp"))))
    assert [(r["code"], r["value"]) for r in found] == [
        ("OBSERVATION//bp", 7),
        ("OBSERVATION//s", 120),
        ("OBSERVATION//d", 80),
        (None, None),
    ]
    assert [r["refused"] for r in found] == [None, None, None, "no code"]
    assert {r["resource"] for r in found} == {"e1"}


def test_images_are_counted_by_modality_and_site(read_fhir):
    def series(modality: str, site: str, images: int | None) -> dict:
        given = {"modality": {"code": modality}, "bodySite": {"display": site}, "numberOfInstances": images}
        return {name: value for name, value in given.items() if value is not None}

    studies = [
        {"series": [series("CT", "Head", 30), series("CT", "Neck", 9), series("CT", "Head", 10)]},
        {"series": [series("MR", "Knee", None), series("MR", "Knee", 4), series("CT", "Neck", 1)]},
        {"series": [series("DX", "Knee", None)], "numberOfInstances": 2, "numberOfSeries": 1},
        {"modality": [{"code": "US"}], "numberOfSeries": 5},
        {"modality": [{"code": "US"}, {"code": "CT"}], "numberOfSeries": 5},
        {"numberOfInstances": 3},
    ]
    found = read_fhir(patient(), *(event("ImagingStudy", f"i{i}", **s) for i, s in enumerate(studies)))
    assert [(r["code"], r["value"], r["unit"]) for r in rows(found, "ImagingStudy")] == [
        ("IMAGINGSTUDY//CT Head", 40, "images"),
        ("IMAGINGSTUDY//CT Neck", 9, "images"),
        ("IMAGINGSTUDY//MR Knee", 2, "series"),
        ("IMAGINGSTUDY//CT Neck", 1, "images"),
        ("IMAGINGSTUDY//DX Knee", 2, "images"),
        ("IMAGINGSTUDY//US", 5, "series"),
        ("IMAGINGSTUDY//US", None, None),
        ("IMAGINGSTUDY//CT", None, None),
        (None, 3, "images"),
    ]


def test_a_dose_and_a_conclusion(read_fhir):
    drug = {"medicationCodeableConcept": coded("5", "Aspirin", RXNORM), "effectiveDateTime": NOON}
    dose = {"dosage": {"dose": {"value": 100, "code": "mg"}}}
    report = event("DiagnosticReport", conclusion="clear lungs")
    found = read_fhir(patient(), event("MedicationAdministration", **drug, **dose), report)
    row = only(found, "MedicationAdministration")
    assert (row["value"], row["unit"]) == (100, "mg") and not found.flags
    assert only(found, "DiagnosticReport")["text"] == "clear lungs"


# When it was


def test_clock_times_are_utc_as_python_reads_them(read_fhir):
    dice = random.Random(7)
    texts = []
    for _ in range(300):
        at = datetime(1900, 1, 1) + timedelta(
            seconds=dice.randrange(4 * 10**9), microseconds=dice.randrange(10**6)
        )
        zone = timezone(timedelta(minutes=dice.choice([0, 60, 330, -570, 840, -720])))
        spec = dice.choice(["seconds", "milliseconds", "microseconds"])
        texts.append(
            at.replace(tzinfo=zone).isoformat(timespec=spec).replace("+00:00", dice.choice(["Z", "+00:00"]))
        )
    found = read_fhir(patient(), *(event(id=f"e{i}", effectiveDateTime=t) for i, t in enumerate(texts)))
    plain = [datetime.fromisoformat(t).astimezone(UTC).replace(tzinfo=None) for t in texts]
    assert [row["time"] for row in rows(found)] == plain
    assert {row["time_bare"] for row in rows(found)} == {False} and not found.flags


TIMES = [  # text, time, bare, flag
    ("2021-03-04", datetime(2021, 3, 4), True, None),
    ("2020-02", datetime(2020, 2, 29), True, "stand for their last day"),
    ("2021-12", datetime(2021, 12, 31), True, "stand for their last day"),
    ("2021", datetime(2021, 12, 31), True, "stand for their last day"),
    ("2021-03-04T12:00:00", datetime(2021, 3, 4, 12), False, "without a zone"),
    ("2021-03-04T12:00+02:00", datetime(2021, 3, 4, 10), False, None),
]


@pytest.mark.parametrize(("text", "time", "bare", "flag"), TIMES)
def test_dates_and_parts_of_dates(read_fhir, text, time, bare, flag):
    found = read_fhir(patient(), event(effectiveDateTime=text))
    row = only(found)
    assert (row["time"], row["time_bare"], row["refused"]) == (time, bare, None)
    assert len(found.flags) == (flag is not None) and (flag or "") in "".join(found.flags)


@pytest.mark.parametrize(
    "text", ["2021-02-30", "03/04/2021", "yesterday", "2021-13", "2021-03-04 12:00", "20", "1-1"]
)
@pytest.mark.parametrize("name", ["effectiveDateTime", "issued"])
def test_what_is_no_time_is_refused(read_fhir, text, name):
    assert only(read_fhir(patient(), event(**{name: text})))["refused"] == "not a time"


def test_no_time_is_untimed(read_fhir):
    row = only(read_fhir(patient(), event(effectiveDateTime=None)))
    assert (row["time"], row["time_bare"], row["known"], row["refused"]) == (None, None, None, None)


def day(d: int) -> str:
    return f"2021-03-{d:02}T00:00:00Z"


PLACES = [  # kind, fields, days of time, known, until
    (
        "Observation",
        {"effectiveDateTime": None, "effectivePeriod": {"start": day(1), "end": day(3)}},
        1,
        3,
        None,
    ),
    (
        "Observation",
        {"effectiveDateTime": None, "effectivePeriod": {"start": day(1), "end": day(3)}, "issued": day(2)},
        1,
        3,
        None,
    ),
    (
        "Observation",
        {"effectiveDateTime": None, "effectivePeriod": {"start": day(1), "end": day(3)}, "issued": day(5)},
        1,
        5,
        None,
    ),
    ("Observation", {"effectiveDateTime": None, "effectiveInstant": day(2)}, 2, None, None),
    ("Observation", {"effectiveDateTime": None, "issued": day(2)}, 2, 2, None),
    ("Observation", {"effectiveDateTime": day(3), "issued": day(2)}, 3, 2, None),  # for others to judge
    ("DiagnosticReport", {"effectiveDateTime": day(1), "issued": day(2)}, 1, 2, None),
    ("Condition", {"onsetDateTime": day(1), "recordedDate": day(4), "abatementDateTime": day(9)}, 1, 4, 9),
    ("Condition", {"onsetDateTime": day(4), "recordedDate": day(1)}, 4, None, None),
    (
        "Condition",
        {"onsetPeriod": {"start": day(1), "end": day(2)}, "recordedDate": "2021-03-01"},
        1,
        1,
        None,
    ),
    ("Condition", {"recordedDate": day(4), "abatementPeriod": {"start": day(5), "end": day(6)}}, 4, None, 6),
    ("Encounter", {"type": [coded("1")], "period": {"start": day(1), "end": day(3)}}, 1, None, 3),
    ("MedicationRequest", {"authoredOn": day(2)}, 2, None, None),
    (
        "MedicationStatement",
        {"effectivePeriod": {"start": day(1), "end": day(3)}, "dateAsserted": day(4)},
        1,
        4,
        3,
    ),
    ("MedicationAdministration", {"effectivePeriod": {"start": day(1), "end": day(3)}}, 1, None, 3),
    ("Procedure", {"performedPeriod": {"start": day(1), "end": day(3)}}, 1, None, 3),
    ("Procedure", {"performedDateTime": day(1)}, 1, None, None),
    ("Immunization", {"occurrenceDateTime": day(1), "recorded": day(3)}, 1, 3, None),
    ("AllergyIntolerance", {"onsetDateTime": day(1), "recordedDate": day(3)}, 1, 3, None),
    ("ImagingStudy", {"started": day(1)}, 1, None, None),
]


@pytest.mark.parametrize(("kind", "fields", "time", "known", "until"), PLACES)
def test_where_the_times_of_a_resource_are(read_fhir, kind, fields, time, known, until):
    who = {"reference": "Patient/p1"}
    row = only(read_fhir(patient(), event(kind, patient=who, **fields)), kind)
    days = [None if row[name] is None else row[name].day for name in ("time", "known", "until")]
    assert days == [time, known, until]


# People


def test_people(read_fhir):
    race = {
        "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
        "extension": [
            {"url": "ombCategory", "valueCoding": {"display": "White"}},
            {"url": "text", "valueString": "W"},
        ],
    }
    born = {
        "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": NOON}
        ]
    }
    found = read_fhir(
        patient("b", deceasedBoolean=True),
        patient(
            "a", extension=[race], maritalStatus={"text": "Married"}, deceasedDateTime=NOON, _birthDate=born
        ),
        patient("c", birthDate="1950", deceasedBoolean=False),
        event(id="e1", subject={"reference": "Patient/b"}, effectiveDateTime="2021-03-04"),
        event(id="e2", subject={"reference": "Patient/b"}, effectiveDateTime="2021-03-04T20:00:00Z"),
        event(id="e3", subject={"reference": "Patient/b"}, effectiveDateTime="2029", status="cancelled"),
        event(
            "Encounter",
            type=[coded("1")],
            period={"start": day(1), "end": day(3)},
            subject={"reference": "Patient/c"},
        ),
    )
    a, b, c = found.people.to_dicts()
    assert (a["birth"], a["birth_bare"]) == (datetime(2021, 3, 4, 12), False)
    assert (a["race"], a["ethnicity"], a["marital"], a["gender"]) == ("W", None, "Married", "female")
    assert (a["death"], a["death_bare"], a["deceased"], a["last"]) == (
        datetime(2021, 3, 4, 12),
        False,
        "yes",
        datetime(2021, 3, 4, 12),  # the death, as he has no row
    )
    assert (b["birth"], b["birth_bare"], b["death"], b["deceased"]) == (
        datetime(1960, 1, 1),
        True,
        None,
        "yes",
    )
    assert (b["last"], b["last_bare"]) == (datetime(2021, 3, 4), True)  # the whole day outlasts its evening
    assert (c["birth"], c["deceased"], c["last"]) == (datetime(1950, 12, 31), "no", datetime(2021, 3, 3))


def test_who_a_patient_is_never_leaves_the_reader(read_fhir):
    secret = {
        "name": [{"family": "SECRET", "given": ["SECRET"]}],
        "address": [{"line": ["SECRET"], "city": "SECRET", "postalCode": "SECRET"}],
        "telecom": [{"system": "phone", "value": "SECRET"}],
        "identifier": [{"system": "http://hl7.org/fhir/sid/us-ssn", "value": "SECRET"}],
        "contact": [{"name": {"text": "SECRET"}}],
        "photo": [{"data": "SECRET"}],
        "text": {"div": "SECRET"},
        "extension": [
            {
                "url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName",
                "valueString": "SECRET",
            }
        ],
        "generalPractitioner": [{"display": "SECRET"}],
    }
    said = event(
        subject={"reference": "Patient/p1", "display": "SECRET"},
        performer=[{"display": "SECRET"}],
        text={"div": "SECRET"},
        note=[{"text": "SECRET"}],
        encounter={"reference": "Encounter/1", "display": "SECRET"},
    )
    found = read_fhir(
        patient(**secret), said, {"resourceType": "Practitioner", "name": [{"family": "SECRET"}]}
    )
    tables = [table.collect().write_json() for table in found.tables.values()]
    whole = " ".join([*tables, found.people.write_json(), *found.flags])
    assert "p1" in whole and "SECRET" not in whole


def at(version: int) -> dict:
    return {"lastUpdated": f"2021-01-0{version}T00:00:00+01:00"}


TWICE = [  # first, second, then what is refused, or the marital status that counts
    ({}, {"gender": "male"}, "two values of gender"),
    ({"meta": at(1)}, {"birthDate": "1961-01-01", "meta": at(2)}, "two values of birth"),
    ({}, {}, None),
    ({}, {"maritalStatus": {"text": "W"}}, "W"),
    ({"maritalStatus": {"text": "W"}}, {}, "W"),
    ({"maritalStatus": {"text": "W"}}, {"maritalStatus": {"text": "M"}}, "two values of marital"),
    ({"maritalStatus": {"text": "W"}, "meta": at(2)}, {"maritalStatus": {"text": "M"}, "meta": at(1)}, "W"),
    ({"maritalStatus": {"text": "W"}, "meta": at(1)}, {"maritalStatus": {"text": "M"}, "meta": at(2)}, "M"),
    ({"maritalStatus": {"text": "W"}, "meta": at(1)}, {"meta": at(2)}, None),
    ({"deceasedDateTime": NOON}, {"deceasedBoolean": False}, "two values of deceased"),
]


@pytest.mark.parametrize(("first", "second", "end"), TWICE)
def test_a_patient_who_stands_twice(read_fhir, first, second, end):
    files = {"a__json": patient(**first), "b__json": patient(**second)}
    if end and "two values" in end:
        with pytest.raises(InputError, match=f"b.json: a Patient appears twice.*{end}") as error:
            read_fhir(**files)
        assert "p1" not in str(error.value).replace(str(Path(str(error.value)).parent), "")
    else:
        found = read_fhir(**files)
        assert found.people["marital"].to_list() == [end]
        assert found.flags == ("1 Patient(s) appear twice under one id; taken as one",)


# The same thing twice


def why(*resources: dict, read_fhir) -> list[tuple[float | None, str | None]]:
    return [(row["value"], row["refused"]) for row in rows(read_fhir(patient(), *resources))]


def test_a_patient_of_two_servers_is_flagged(read_fhir):
    urls = ["http://a.org/Patient/p1", "http://b.org/Patient/p1"]
    found = read_fhir(**{f"{i}__json": bundle(patient(), urls=(url,)) for i, url in enumerate(urls)})
    assert "1 Patient(s) of two servers under one id; taken as one" in found.flags and len(found.people) == 1


def test_a_repeat_counts_once(read_fhir):
    one = event(valueInteger=1)
    again = one | {"meta": at(1), "performer": [{"display": "a word that is not read"}]}
    assert why(one, again, event(id="e2"), one, read_fhir=read_fhir) == [
        (1, None),
        (1, "repeat of a resource"),
        (None, None),
        (1, "repeat of a resource"),
    ]


def test_the_newest_version_counts_wherever_it_stands(read_fhir):
    old, new = event(valueInteger=1, meta=at(1)), event(valueInteger=2, meta=at(2))
    stale = (1, "older version of a resource")
    assert why(old, new, read_fhir=read_fhir) == [stale, (2, None)]
    assert why(new, old, old, read_fhir=read_fhir) == [(2, None), stale, stale]
    assert why(new, old, new, read_fhir=read_fhir) == [(2, None), stale, (2, "repeat of a resource")]
    gone = new | {"status": "entered-in-error"}
    assert why(old, gone, read_fhir=read_fhir) == [stale, (2, "entered in error")]


def test_versions_of_unknown_age_are_all_refused(read_fhir):
    plain, other = event(valueInteger=1), event(valueInteger=2, meta=at(1))
    lost = "versions of a resource disagree"
    assert why(plain, other, read_fhir=read_fhir) == [(1, lost), (2, lost)]
    assert why(other, other | {"valueInteger": 3}, read_fhir=read_fhir) == [(2, lost), (3, lost)]


def test_no_id_is_never_a_repeat_and_types_have_their_own_ids(read_fhir):
    found = read_fhir(patient(), event(id=None), event(id=None), event(), event("Condition"))
    refused = [row["refused"] for kind in ("Observation", "Condition") for row in rows(found, kind)]
    assert refused == [None] * 4


def test_a_panel_is_repeated_as_a_whole(read_fhir):
    panel = event(component=[{"code": coded(c), "valueInteger": 1} for c in "ab"])
    found = read_fhir(patient(), panel, panel | {"component": panel["component"][::-1]})
    assert [row["refused"] for row in rows(found)] == [None, None, *["repeat of a resource"] * 2]


# Broken files


OK = json.dumps(bundle(patient(), event())).encode()
BROKEN = [  # file, content, message
    ("x.json", OK[:-30], "not JSON at line 1, column"),
    ("x.json", b"", "not JSON at line 1, column 1"),
    ("x.json", b"{}\n{}", "name it .ndjson"),
    ("x.json", b"[" * 50_000 + b"]" * 50_000, "nested too deep"),
    ("x.json", b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deep"),
    ("x.json", b'{"a":' * 50_000, "nested too deep"),
    ("x.json", b'{"resourceType": "Patient", "id": "\xfc"}', "not UTF-8 at byte 35"),
    ("x.json", b'{"resourceType": NaN}', "not JSON: NaN"),
    ("x.json", b'{"resourceType": %s}' % (b"1" * 5000), "not JSON: Exceeds the limit"),
    ("x.json", b'{"some": "settings"}', "not a FHIR resource"),
    ("x.json", b"[1, 2]", "not a FHIR resource"),
    ("x.json.gz", gzip.compress(OK)[:-20], "cannot be read"),
    ("x.json.gz", OK, "cannot be read"),
    ("x.ndjson.gz", gzip.compress(OK)[:-20], "cannot be read"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_is_refused_by_name(read_fhir, name, content, message):
    with pytest.raises(InputError, match=message) as error:
        read_fhir(**{"good.json": OK, name: content})
    assert name in str(error.value) and "\n" not in str(error.value)


def test_bundles_in_bundles_end(read_fhir):
    inner = bundle(patient(), event())
    for _ in range(20):
        inner = bundle(inner)
    assert only(read_fhir(a__json=inner))["id"] == "p1"
    text = '{"resourceType":"Bundle","entry":[{"resource":' * 3000 + "{}" + "}]}" * 3000
    with pytest.raises(InputError, match="nested too deep"):
        read_fhir(a__json=text)


def test_a_huge_file_is_refused_unread(read_fhir, tmp_path, monkeypatch):
    from gnnpatient.readers import fhir

    with (tmp_path / "x.json").open("wb") as file:
        file.truncate((2 << 30) + 1)  # a hole, not 2 GB of disk
    with pytest.raises(InputError, match=r"x.json: over 2 GB"):
        fhir.read(tmp_path)
    (tmp_path / "x.json").unlink()
    monkeypatch.setattr("gnnpatient.readers.fhir.documents.MAX_DOCUMENT", 3 << 20)
    with pytest.raises(InputError, match=r"x.json.gz: over"):
        read_fhir(**{"x.json.gz": gzip.compress(b" " * (5 << 20))})


def test_a_huge_line_is_refused(read_fhir, monkeypatch):

    monkeypatch.setattr("gnnpatient.readers.fhir.documents.MAX_LINE", 1000)
    with pytest.raises(InputError, match="line 2 is over"):
        read_fhir(patient(), event(valueString="x" * 2000))


def test_an_empty_folder_is_refused(read_fhir, tmp_path):
    from gnnpatient.readers.fhir import read

    with pytest.raises(InputError, match="no FHIR in it"):
        read_fhir(**{"readme.txt": "x", ".hidden.json": "x"})
    with pytest.raises(InputError, match="no such folder"):
        read(tmp_path / "none")


def test_a_bad_line_is_counted_and_the_others_stand(read_fhir):
    lines = [
        "{oops",
        json.dumps(patient()),
        "",
        '{"resourceType": "Condition", "id',
        json.dumps(event()),
        "[1]",
    ]
    lines += ["{" * 5000, '{"resourceType": "Patient", "id', *["x"] * 4]
    found = read_fhir(**{"some.ndjson": "\n".join(lines)})
    whys = [row["refused"] for row in rows(found)]
    assert whys == [None, "not JSON", "not a resource", *["not JSON"] * 5]
    assert only(found, "Condition")["refused"] == "not JSON"
    assert only(found, "Resource")["refused"] == "not JSON"  # the Patient
    assert found.flags == (
        "some.ndjson: 8 line(s) not JSON: 1, 4, 7, 8, 9, ...",
        "some.ndjson: 1 line(s) not a resource: 6",
    )


def test_bad_lines_of_many_kinds_have_a_table_of_their_own(read_fhir, monkeypatch):

    found = read_fhir(
        **{"some.ndjson": "\n".join([json.dumps(event()), json.dumps(event("Condition")), "{oops"])}
    )
    assert only(found, "Resource")["refused"] == "not JSON"
    monkeypatch.setattr("gnnpatient.readers.fhir.events.CHUNK", 2)
    found = read_fhir(**{"some.ndjson": "\n".join(["{oops"] * 5)})
    assert len(rows(found, "Resource")) == 5 and not rows(found)
    found = read_fhir(**{"some.ndjson": "\n".join([json.dumps(event()), json.dumps(event("Condition"))])})
    assert len(rows(found)) == len(rows(found, "Condition")) == 1


def test_other_resources_are_counted(read_fhir):
    other = [{"resourceType": kind} for kind in ("Claim", "Goal", "Claim", "\x1b[31m", "Medication")]
    remove = {"resourceType": "Bundle", "entry": [{"request": {"method": "DELETE", "url": "Observation/e1"}}]}
    found = read_fhir(patient(), patient("p2", link=[{"type": "replaced-by"}]), patient(""), *other, remove)
    assert found.flags == (
        "2 resource(s) of type Claim not read",
        "1 resource(s) of type Goal not read",
        "1 resource(s) of type unknown not read",
        "1 Patient(s) linked to another; each stays a person of its own",
        "1 Patient(s) without an id not read",
        "1 deletion(s) in bundles not applied",
    )


def test_half_a_surrogate_pair_is_no_stop(read_fhir):
    line = json.dumps(event(valueString="a?b", code={"text": "c?d"})).replace("?", "\\ud800")
    found = read_fhir(**{"a.ndjson": json.dumps(patient()) + "\n" + line})
    assert (only(found)["text"], only(found)["code"]) == ("a?b", "OBSERVATION//c d")


JUNK = [
    "x",
    "",
    3,
    1e400,
    True,
    [],
    [None],
    [[]],
    {},
    {"coding": "x"},
    {"coding": [3]},
    {"value": []},
    {"x": {}},
]


def test_no_shape_stops_the_reader_or_loses_a_row(read_fhir):
    """Every field of every type, replaced by everything that it is not."""
    whole = {
        "meta": at(1),
        "status": "final",
        "verificationStatus": coded("confirmed"),
        "category": [coded("x")],
        "class": {"code": "IMP"},
        "type": [coded("1")],
        "subject": {"reference": "Patient/p1"},
        "patient": {"reference": "Patient/p1"},
        "encounter": {"reference": "Encounter/1"},
        "context": {"reference": "Encounter/1"},
        "contained": [{"resourceType": "Group", "id": "1"}],
        "code": coded("1"),
        "vaccineCode": coded("1"),
        "medicationCodeableConcept": coded("1"),
        "medicationReference": {"reference": "#1"},
        "dosage": {"dose": {"value": 1}},
        "component": [{"code": coded("1"), "valueQuantity": {"value": 1}}],
        "valueQuantity": {"value": 1},
        "valueCodeableConcept": coded("1"),
        "conclusion": "x",
        "series": [{"modality": {"code": "CT"}, "bodySite": {"code": "x"}, "numberOfInstances": 1}],
        "modality": [{"code": "CT"}],
        "numberOfInstances": 1,
        "numberOfSeries": 1,
        "dataAbsentReason": coded("x"),
        "doNotPerform": False,
        **dict.fromkeys(["effectiveDateTime", "issued", "onsetDateTime", "recordedDate", "authoredOn"], NOON),
        **{f"{name}eriod": {"end": NOON} for name in ("effectiveP", "performedP", "p", "abatementP")},
    }
    from gnnpatient.readers.fhir.resources import RESOURCE_TYPES

    made = Counter()
    lines = [json.dumps(patient())]
    for name in whole:
        for junk in JUNK:
            for kind in RESOURCE_TYPES:
                made[kind] += 1
                resource = {"resourceType": kind, "id": f"{name}{made[kind]}"} | whole | {name: junk}
                lines.append(json.dumps(resource))
            lines.append(json.dumps(patient(f"q{len(lines)}", **{name: junk})))
    for name in (
        "birthDate",
        "_birthDate",
        "gender",
        "extension",
        "maritalStatus",
        "deceasedDateTime",
        "meta",
        "link",
    ):
        lines += [json.dumps(patient(f"r{name}{i}", **{name: junk})) for i, junk in enumerate(JUNK)]
        lines += [json.dumps({"resourceType": "Bundle", "entry": junk}) for junk in JUNK]
        lines += [
            json.dumps({"resourceType": "Bundle", "entry": [{"resource": j, "fullUrl": j}]}) for j in JUNK
        ]
    found = read_fhir(**{"a.ndjson": "\n".join(lines).replace("Infinity", "1e400")})
    for kind in RESOURCE_TYPES:
        assert len({row["resource"] for row in rows(found, kind)}) == made[kind], kind
        good = [row for row in rows(found, kind) if row["refused"] is None]
        assert all(row["id"] == "p1" and row["code"] for row in good) and len(good) > made[kind] / 2, kind


# Real files


CORPUS = [  # file, reason of the refused row (or of the whole), flag
    ("ok_bundle.json", None, None),
    ("obs_no_subject.json", "no patient", None),
    ("obs_unknown_patient.json", "patient not in the data", None),
    ("obs_value_string.json", None, "1 Observation value(s) are text"),
    ("obs_unit_text.json", None, "1 value(s) have a unit in words, not in UCUM"),
    ("ndjson_bad_line.ndjson", "not JSON", "ndjson_bad_line.ndjson: 1 line(s) not JSON: 2"),
]


@pytest.mark.parametrize(("name", "reason", "flag"), CORPUS)
def test_the_corpus_of_faults_is_counted(read_fhir, faults_dir, name, reason, flag):
    found = read_fhir(**{name: (faults_dir / "fhir" / name).read_bytes()})
    assert found.flags == ((flag,) if flag else ())
    assert {row["refused"] for row in rows(found)} - {None} == ({reason} if reason else set())
    assert all((row["id"] == "p1") == (row["refused"] is None) for row in rows(found))


@pytest.mark.parametrize("name", ["unclosed.json", "deep_nesting.json", "patient_twice.json"])
def test_the_corpus_of_faults_is_refused(read_fhir, faults_dir, name):
    with pytest.raises(InputError, match=name):
        read_fhir(**{name: (faults_dir / "fhir" / name).read_bytes()})


def test_synthea_gives_what_a_plain_count_gives(data_dir):
    from gnnpatient.readers.fhir import read

    folder = data_dir / "fhir-synthea-r4"
    count, deceased, numbers = Counter(), 0, []
    for path in sorted(folder.rglob("*.json.gz")):
        with gzip.open(path) as file:
            resources = [entry["resource"] for entry in json.load(file)["entry"]]
        for resource in resources:
            count[resource["resourceType"]] += len(resource.get("component", [])) or 1
            deceased += "deceasedDateTime" in resource
            parts = [resource, *resource.get("component", [])]
            numbers += [part["valueQuantity"]["value"] for part in parts if "valueQuantity" in part]
    found = read(folder)
    for kind in found.tables:
        assert len(rows(found, kind)) == (deceased if kind == "Patient" else count[kind]), kind
        assert {row.get("refused") for row in rows(found, kind)} <= {None}
    values = found.tables["Observation"].collect()["value"]
    assert values.drop_nulls().to_list() == numbers
    assert len(found.people) == count["Patient"] == 102
    assert found.people["death"].count() == deceased == 39
    assert found.people["birth"].null_count() == found.people["last"].null_count() == 0


@pytest.mark.parametrize(
    ("kind", "more", "why"),
    [
        ("Observation", {"status": "registered"}, "registered, not yet there"),
        ("Observation", {"status": "Cancelled"}, "cancelled"),
        ("MedicationRequest", {"intent": "Proposal"}, "a proposal, not an order"),
        ("Condition", {"verificationStatus": coded("DIFFERENTIAL")}, "a differential diagnosis"),
        ("Condition", {"verificationStatus": coded("Refuted")}, "refuted"),
        ("Condition", {"verificationStatus": coded("Confirmed")}, None),
    ],
)
def test_a_code_of_fhir_is_one_in_capitals_too(read_fhir, kind, more, why):
    times = {"Observation": "effectiveDateTime", "MedicationRequest": "authoredOn"}
    drug = {"medicationCodeableConcept": coded("7", system=RXNORM)} if kind == "MedicationRequest" else {}
    found = only(
        read_fhir(patient(), event(kind, **{times.get(kind, "recordedDate"): NOON}, **drug, **more)), kind
    )
    assert found["refused"] == why


@pytest.mark.parametrize(("code", "day"), [("inpatient", 9), ("imp", 9), ("Acute", 9), ("outpatient", 4)])
def test_a_stay_is_one_however_its_class_is_written(read_fhir, code, day):
    stay = event("Encounter", "v1", period={"start": NOON, "end": "2021-03-09T12:00:00Z"}, code=None)
    ill = event("Condition", onsetDateTime=NOON, encounter={"reference": "Encounter/v1"})
    found = only(read_fhir(patient(), stay | {"class": {"code": code}}, ill), "Condition")
    assert (found["known"] or found["time"]).day == day
