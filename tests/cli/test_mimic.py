"""The specs of MIMIC-III, MIMIC-IV and eICU on made tables with the columns that PhysioNet publishes."""

import gzip
import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError

ITEMS = {  # of d_labitems: label, fluid, category, unit, mean, spread, change a step of severity
    50912: ("Creatinine", "Blood", "Chemistry", "mg/dL", 1.1, 0.2, 0.5),
    50813: ("Lactate", "Blood", "Blood Gas", "mmol/L", 1.5, 0.4, 1.2),
    50983: ("Sodium", "Blood", "Chemistry", "mEq/L", 139, 3, 0),
    51265: ("Platelet Count", "Blood", "Hematology", "K/uL", 240, 50, -40),
    51237: ("INR(PT)", "Blood", "Hematology", "", 1.1, 0.1, 0.2),
    51478: ("Glucose", "Urine", "Chemistry", "mg/dL", 100, 10, 0),  # not among those that the specs read
}
ICD = {9: ("4280", "Congestive heart failure, unspecified"), 10: ("E119", "Type 2 diabetes mellitus")}
CLOCK = "%Y-%m-%d %H:%M:%S"


class Hospital:
    """Made admissions: who is sicker has worse values and dies more often. Years differ by person."""

    def __init__(self, persons: int = 45, admissions: int = 60, seed: int = 0):
        draw = np.random.default_rng(seed)
        self.first = [
            datetime(2110 + int(y), 1, 1) + timedelta(hours=int(h))
            for y, h in zip(draw.integers(0, 90, persons), draw.integers(0, 8000, persons), strict=True)
        ]
        self.age = draw.integers(30, 89, persons).tolist()
        self.age[0] = 91  # over 89
        self.gender = draw.choice(["F", "M"], persons).tolist()
        self.rows = {name: [] for name in ("stay", "lab", "icu", "drug", "code")}
        self.dod = dict[int, datetime]()
        person_of = [*range(persons), *draw.integers(1, persons, admissions - persons).tolist()]
        count = dict.fromkeys(range(persons), 0)
        for hadm, person in enumerate(person_of):
            came = self.first[person] + timedelta(days=200 * count[person])
            count[person] += 1
            sick, days = draw.random(), float(draw.uniform(2, 12))
            left = (came + timedelta(days=days)).replace(second=0)
            died = bool(draw.random() < 0.65 * sick) and person not in self.dod and hadm >= persons // 4
            if died and count[person] < person_of.count(person):
                died = False  # who comes again has not died before
            if died or (sick > 0.8 and count[person] == person_of.count(person)):
                self.dod.setdefault(person, left if died else left + timedelta(days=60))
            self.rows["stay"].append((person, hadm, came, left, died))
            for step in range(int(days * 2)):
                at = came + timedelta(hours=12 * step + 1)
                for item, (*_, mean, spread, change) in ITEMS.items():
                    value = mean + spread * draw.normal() + change * sick * (1 + step / 6)
                    self.rows["lab"].append(
                        (person, hadm, item, at, at + timedelta(hours=3), round(value, 2))
                    )
            if sick > 0.5:
                start = came + timedelta(hours=10)
                self.rows["icu"].append((person, hadm, start, start + timedelta(days=1)))
            drug = "Norepinephrine" if sick > 0.6 else "Aspirin"
            self.rows["drug"].append((person, hadm, came + timedelta(days=1), came + timedelta(days=2), drug))
            self.rows["code"].append((person, hadm, 9 if hadm % 2 else 10))


def write(folder: Path, packed: bool, tables: dict[str, dict[str, list]]) -> None:
    """Tables as CSV, cells as PhysioNet writes them: an empty cell is nothing, a time has a clock."""
    for name, columns in tables.items():
        frame = pl.DataFrame(columns, strict=False)
        path = folder / f"{name}.csv{'.gz' * packed}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wb") if packed else path.open("wb") as file:
            frame.write_csv(file, datetime_format=CLOCK)


def mimic_iv(folder: Path, packed: bool = True, seed: int = 0) -> Hospital:
    h = Hospital(seed=seed)
    stays, labs, drugs, codes, icu = (h.rows[name] for name in ("stay", "lab", "drug", "code", "icu"))
    persons = range(len(h.age))
    empty = [None] * len(stays)
    write(folder, packed, {
        "hosp/patients": {
            "subject_id": [10000 + p for p in persons], "gender": h.gender, "anchor_age": h.age,
            "anchor_year": [h.first[p].year for p in persons],
            "anchor_year_group": ["2011 - 2013" for _ in persons],
            "dod": [h.dod[p].date() if p in h.dod else None for p in persons],
        },
        "hosp/admissions": {
            "subject_id": [10000 + p for p, *_ in stays], "hadm_id": [200000 + a for _, a, *_ in stays],
            "admittime": [came for _, _, came, _, _ in stays], "dischtime": [left for *_, left, _ in stays],
            "deathtime": [left if died else None for *_, left, died in stays],
            "admission_type": ["EW EMER." if a % 3 else "URGENT" for _, a, *_ in stays],
            "admit_provider_id": empty, "admission_location": ["EMERGENCY ROOM" for _ in stays],
            "discharge_location": ["DIED" if died else "HOME" for *_, died in stays],
            "insurance": ["Medicare" for _ in stays], "language": ["ENGLISH" for _ in stays],
            "marital_status": ["MARRIED" if a % 2 else "SINGLE" for _, a, *_ in stays],
            "race": ["WHITE" for _ in stays], "edregtime": empty, "edouttime": empty,
            "hospital_expire_flag": [int(died) for *_, died in stays],
        },
        "hosp/d_labitems": {
            "itemid": list(ITEMS), "label": [i[0] for i in ITEMS.values()],
            "fluid": [i[1] for i in ITEMS.values()], "category": [i[2] for i in ITEMS.values()],
        },
        "hosp/labevents": {
            "labevent_id": list(range(len(labs))), "subject_id": [10000 + p for p, *_ in labs],
            "hadm_id": [None if i % 50 == 0 else 200000 + a for i, (_, a, *_) in enumerate(labs)],
            "specimen_id": list(range(len(labs))), "itemid": [item for _, _, item, *_ in labs],
            "order_provider_id": [None] * len(labs), "charttime": [at for *_, at, _, _ in labs],
            "storetime": [None if i % 60 == 1 else stored for i, (*_, stored, _) in enumerate(labs)],
            "value": [str(v) for *_, v in labs], "valuenum": [v for *_, v in labs],
            "valueuom": [ITEMS[item][3] for _, _, item, *_ in labs], "ref_range_lower": [None] * len(labs),
            "ref_range_upper": [None] * len(labs), "flag": [None] * len(labs),
            "priority": ["ROUTINE" for _ in labs], "comments": [None] * len(labs),
        },
        "hosp/diagnoses_icd": {
            "subject_id": [10000 + p for p, *_ in codes], "hadm_id": [200000 + a for _, a, _ in codes],
            "seq_num": [1 for _ in codes], "icd_code": [ICD[v][0] for *_, v in codes],
            "icd_version": [v for *_, v in codes],
        },
        "hosp/procedures_icd": {
            "subject_id": [10000 + p for p, *_ in stays], "hadm_id": [200000 + a for _, a, *_ in stays],
            "seq_num": [1 for _ in stays], "chartdate": [came.date() for _, _, came, _, _ in stays],
            "icd_code": ["3893" for _ in stays], "icd_version": [9 for _ in stays],
        },
        "hosp/prescriptions": {
            "subject_id": [10000 + p for p, *_ in drugs], "hadm_id": [200000 + a for _, a, *_ in drugs],
            "pharmacy_id": list(range(len(drugs))), "poe_id": [None] * len(drugs),
            "poe_seq": [None] * len(drugs),
            "order_provider_id": [None] * len(drugs), "starttime": [start for *_, start, _, _ in drugs],
            "stoptime": [stop for *_, stop, _ in drugs], "drug_type": ["MAIN" for _ in drugs],
            "drug": [drug for *_, drug in drugs],
        },
        "hosp/transfers": {
            "subject_id": [10000 + p for p, *_ in stays], "hadm_id": [200000 + a for _, a, *_ in stays],
            "transfer_id": list(range(len(stays))), "eventtype": ["admit" for _ in stays],
            "careunit": ["Medicine" for _ in stays], "intime": [came for _, _, came, _, _ in stays],
            "outtime": [left for *_, left, _ in stays],
        },
        "icu/icustays": {
            "subject_id": [10000 + p for p, *_ in icu], "hadm_id": [200000 + a for _, a, *_ in icu],
            "stay_id": [300000 + a for _, a, *_ in icu],
            "first_careunit": ["Medical Intensive Care Unit (MICU)" for _ in icu],
            "last_careunit": ["Medical Intensive Care Unit (MICU)" for _ in icu],
            "intime": [start for *_, start, _ in icu], "outtime": [end for *_, end in icu],
            "los": [1.0 for _ in icu],
        },
    })  # fmt: skip
    return h


def mimic_iii(folder: Path, packed: bool = False, seed: int = 0) -> Hospital:
    h = Hospital(seed=seed)
    stays, labs, drugs, codes, icu = (h.rows[name] for name in ("stay", "lab", "drug", "code", "icu"))
    persons = range(len(h.age))
    born = [
        h.first[p].replace(year=h.first[p].year - (300 if h.age[p] > 89 else h.age[p]), day=1)
        for p in persons
    ]

    def midnight(at: datetime) -> datetime:
        return at.replace(hour=0, minute=0, second=0)

    dod = [midnight(h.dod[p]) if p in h.dod else None for p in persons]
    write(folder, packed, {
        "PATIENTS": {
            "ROW_ID": list(persons), "SUBJECT_ID": [100 + p for p in persons], "GENDER": h.gender,
            "DOB": [midnight(at) for at in born], "DOD": dod, "DOD_HOSP": dod, "DOD_SSN": dod,
            "EXPIRE_FLAG": [int(p in h.dod) for p in persons],
        },
        "ADMISSIONS": {
            "ROW_ID": list(range(len(stays))), "SUBJECT_ID": [100 + p for p, *_ in stays],
            "HADM_ID": [200000 + a for _, a, *_ in stays], "ADMITTIME": [came for _, _, came, _, _ in stays],
            "DISCHTIME": [left for *_, left, _ in stays],
            "DEATHTIME": [left if died else None for *_, left, died in stays],
            "ADMISSION_TYPE": ["NEWBORN" if a == 3 else "EMERGENCY" for _, a, *_ in stays],
            "ADMISSION_LOCATION": ["EMERGENCY ROOM ADMIT" for _ in stays],
            "DISCHARGE_LOCATION": ["DEAD/EXPIRED" if died else "HOME" for *_, died in stays],
            "INSURANCE": ["Medicare" for _ in stays], "LANGUAGE": ["ENGL" for _ in stays],
            "RELIGION": [None] * len(stays), "MARITAL_STATUS": ["SINGLE" for _ in stays],
            "ETHNICITY": ["WHITE" for _ in stays], "EDREGTIME": [None] * len(stays),
            "EDOUTTIME": [None] * len(stays), "DIAGNOSIS": ["SEPSIS" for _ in stays],
            "HOSPITAL_EXPIRE_FLAG": [int(died) for *_, died in stays],
            "HAS_CHARTEVENTS_DATA": [1 for _ in stays],
        },
        "D_LABITEMS": {
            "ROW_ID": list(range(len(ITEMS))), "ITEMID": list(ITEMS), "LABEL": [i[0] for i in ITEMS.values()],
            "FLUID": [i[1] for i in ITEMS.values()], "CATEGORY": [i[2] for i in ITEMS.values()],
            "LOINC_CODE": [None] * len(ITEMS),
        },
        "LABEVENTS": {
            "ROW_ID": list(range(len(labs))), "SUBJECT_ID": [100 + p for p, *_ in labs],
            "HADM_ID": [200000 + a for _, a, *_ in labs], "ITEMID": [item for _, _, item, *_ in labs],
            "CHARTTIME": [at for *_, at, _, _ in labs], "VALUE": [str(v) for *_, v in labs],
            "VALUENUM": [v for *_, v in labs], "VALUEUOM": [ITEMS[item][3] for _, _, item, *_ in labs],
            "FLAG": [None] * len(labs),
        },
        "PRESCRIPTIONS": {
            "ROW_ID": list(range(len(drugs))), "SUBJECT_ID": [100 + p for p, *_ in drugs],
            "HADM_ID": [200000 + a for _, a, *_ in drugs], "ICUSTAY_ID": [None] * len(drugs),
            "STARTDATE": [midnight(start) for *_, start, _, _ in drugs],
            "ENDDATE": [midnight(stop) for *_, stop, _ in drugs], "DRUG_TYPE": ["MAIN" for _ in drugs],
            "DRUG": [drug for *_, drug in drugs],
        },
        "ICUSTAYS": {
            "ROW_ID": list(range(len(icu))), "SUBJECT_ID": [100 + p for p, *_ in icu],
            "HADM_ID": [200000 + a for _, a, *_ in icu], "ICUSTAY_ID": [300000 + a for _, a, *_ in icu],
            "DBSOURCE": ["metavision" for _ in icu], "FIRST_CAREUNIT": ["MICU" for _ in icu],
            "LAST_CAREUNIT": ["MICU" for _ in icu], "FIRST_WARDID": [1 for _ in icu],
            "LAST_WARDID": [1 for _ in icu], "INTIME": [start for *_, start, _ in icu],
            "OUTTIME": [end for *_, end in icu], "LOS": [1.0 for _ in icu],
        },
        "DIAGNOSES_ICD": {
            "ROW_ID": list(range(len(codes))), "SUBJECT_ID": [100 + p for p, *_ in codes],
            "HADM_ID": [200000 + a for _, a, _ in codes], "SEQ_NUM": [1 for _ in codes],
            "ICD9_CODE": ["4280" for _ in codes],
        },
        "PROCEDURES_ICD": {
            "ROW_ID": list(range(len(codes))), "SUBJECT_ID": [100 + p for p, *_ in codes],
            "HADM_ID": [200000 + a for _, a, _ in codes], "SEQ_NUM": [1 for _ in codes],
            "ICD9_CODE": ["3893" for _ in codes],
        },
    })  # fmt: skip
    return h


@pytest.fixture(scope="module")
def iv(tmp_path_factory):
    from gnnpatient import read_cohort

    folder = tmp_path_factory.mktemp("iv")
    return mimic_iv(folder), read_cohort("mimic-iv", folder)


def visible(cohort, patient: int, at: float, kind: str) -> int:
    from gnnpatient import build_graphs

    return len(build_graphs(cohort.at(at, patient=str(patient)))[kind].code)


def test_mimic_iv_is_read_as_it_is_shipped(iv):
    hospital, cohort = iv
    stays = hospital.rows["stay"]
    assert len(cohort) == len(stays) and len(np.unique(cohort.group)) == len(hospital.age)
    assert min(hospital.first).year > 2105  # years as they are shifted
    label = cohort.outcomes["leaving"]
    assert label.causes == ("discharge", "death")
    order = [int(name) - 200000 for name in cohort.ids]
    assert label.event.tolist() == [1 + stays[a][4] for a in order]
    days = [(stays[a][3] - stays[a][2]).total_seconds() / 86400 for a in order]
    np.testing.assert_allclose(label.time / 86400, days, atol=1e-4)
    # names of the dictionary; the urine test is not among those that are read
    assert cohort.codes["lab"] == ("other", "Creatinine", "INR(PT)", "Lactate", "Platelet Count", "Sodium")
    assert dict(zip(cohort.codes["lab"], cohort.units["lab"], strict=True))["Lactate"] == "mmol/L"
    age = cohort.number[:, cohort.spec.patient.number.index("age")]
    want = [hospital.age[stays[a][0]] + stays[a][2].year - hospital.first[stays[a][0]].year for a in order]
    np.testing.assert_array_equal(age, want)
    report = cohort.report
    assert not [flag for flag in report["flags"] if "today" in flag or "decades" in flag]
    labs, made = report["tables"]["hosp/labevents.csv"], hospital.rows["lab"]
    read = [(i, row) for i, row in enumerate(made) if row[2] != 51478]
    blank = sum(i % 50 == 0 for i, _ in read)
    stored = sum(i % 50 != 0 and i % 60 == 1 for i, _ in read)
    assert labs["refused"]["no patient id"] == blank and labs["refused"]["no known time"] == stored
    assert labs["rows"] == labs["used"] + labs["collapsed"] + sum(labs["refused"].values())
    assert report["tables"]["hosp/d_labitems.csv"]["used"] == len(ITEMS)


def test_mimic_iv_shows_what_was_known_then(iv):
    hospital, cohort = iv
    _, stay, came, left, _ = hospital.rows["stay"][30]
    day = (left - came).total_seconds() / 86400
    kind = "icd9" if stay % 2 else "icd10"
    assert [visible(cohort, 200000 + stay, at, kind) for at in (day - 0.01, day + 0.01)] == [0, 1]
    assert cohort.codes["icd9"] == ("other", "428") and cohort.codes["icd10"] == ("other", "E11")
    # the date of a procedure is that of admission, its code is written after discharge
    times = (1.5, day - 0.01, day + 0.01)
    assert [visible(cohort, 200000 + stay, at, "procedure") for at in times] == [0, 0, 1]
    # the first results are drawn after an hour and there after four
    assert [visible(cohort, 200000 + stay, at / 24, "lab") > 0 for at in (1.5, 3.9, 4.1)] == [
        False,
        False,
        True,
    ]
    assert [visible(cohort, 200000 + stay, at, "drug") for at in (0.9, 1.1)] == [0, 1]
    death = cohort.outcomes["mortality"]
    dead = [person in hospital.dod for person, *_ in hospital.rows["stay"]]
    assert 0 < (death.event == 1).sum() <= sum(dead)


def test_mimic_iii_is_read_as_it_is_shipped(tmp_path):
    from gnnpatient import read_cohort

    hospital = mimic_iii(tmp_path)
    cohort = read_cohort("mimic-iii", tmp_path)
    stays = hospital.rows["stay"]
    assert len(cohort) == len(stays) - 1  # the newborn
    age = cohort.number[:, cohort.spec.patient.number.index("age")]
    old = [i for i, name in enumerate(cohort.ids) if hospital.age[stays[int(name) - 200000][0]] > 89]
    assert np.isnan(age).nonzero()[0].tolist() == old and len(old) == 1
    assert [flag for flag in cohort.report["flags"] if "age of 1 patient(s) is above 120" in flag]
    other = [i for i in range(len(cohort)) if i not in old]
    want = [hospital.age[stays[int(cohort.ids[i]) - 200000][0]] for i in other]
    assert (np.abs(age[other] - want) < 2).all()
    assert cohort.codes["lab"][1:] == ("Creatinine", "INR(PT)", "Lactate", "Platelet Count", "Sodium")
    died = [stays[int(name) - 200000][4] for name in cohort.ids]
    assert (cohort.outcomes["leaving"].event == 2).tolist() == died
    # a date of death is the end of that day, though its cell has a clock
    assert ((cohort.outcomes["mortality"].event == 1) >= np.array(died)).all()
    _, stay, came, left, _ = stays[30]
    day = (left - came).total_seconds() / 86400
    assert [visible(cohort, 200000 + stay, at, "diagnosis") for at in (day - 0.01, day + 0.01)] == [0, 1]


@pytest.mark.parametrize("name", ["mimic-iii", "mimic-iv", "eicu"])
def test_nothing_of_the_end_of_a_stay_is_a_static(name):
    from gnnpatient import read_spec

    spec = read_spec(name)
    late = {"insurance", "language", "marital_status", "race", "ethnicity", "deathtime", "edouttime", "los"}
    late |= {"admission_type"} if name == "mimic-iv" else set()  # changes in the stay
    late |= {"dischargeweight", "hospitaldischargestatus", "hospitaldischargelocation"}
    late |= {"unitdischargelocation", "discharge_location", "hospitaldischargeoffset", "drgcode"}
    assert not {column.lower() for column in spec.patient.columns} & late
    for node in spec.nodes.values():  # nor is a row chosen by what became of it
        assert not {*node.where} & {"drugordercancelled", "activeupondischarge"}
    if name == "eicu":  # many orders are written after the start that they give
        assert spec.nodes["drug"].time == "drugorderoffset"


def test_a_table_is_found_packed_or_not_and_not_twice(tmp_path):
    from gnnpatient.readers.tables import read_table

    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write("x\n1\n")
    (tmp_path / "b.tsv").write_text("x\ty\n1\t2\n")
    assert read_table(tmp_path, "a.csv").lazy().collect()["x"].to_list() == ["1"]
    assert read_table(tmp_path, "b.tsv.gz").lazy().collect()["y"].to_list() == ["2"]
    (tmp_path / "a.csv").write_text("x\n2\n")
    for name in ("a.csv", "a.csv.gz"):
        with pytest.raises(InputError, match=r"is there as well; keep one of them"):
            read_table(tmp_path, name)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "c.csv.gz").symlink_to(tmp_path / "a.csv.gz")
    with pytest.raises(InputError, match="leads out of"):
        read_table(tmp_path / "in", "c.csv")


@pytest.mark.parametrize("name", ["mimic-iii", "mimic-iv", "eicu", "labs-visits"])
def test_what_a_spec_leaves_to_be_switched_on_can_be(name, tmp_path):
    from gnnpatient import read_spec
    from gnnpatient.spec.graph import spec_path

    lines, on = [], False
    for line in spec_path(name).read_text().splitlines():
        on = line.startswith("# [") or (on and line.startswith("# "))
        lines.append(
            line[2:] if (on and not line.endswith(":") and " = " in line) or line.startswith("# [") else line
        )
    (tmp_path / "on.toml").write_text("\n".join(lines))
    more = read_spec(tmp_path / "on.toml")
    few = read_spec(name)
    added = len(more.nodes) + len(more.outcomes) - len(few.nodes) - len(few.outcomes)
    assert added == {"mimic-iii": 2, "mimic-iv": 2, "eicu": 2, "labs-visits": 0}[name]


def test_three_plain_tables_are_read(tmp_path):
    from gnnpatient import build_graphs, read_cohort

    (tmp_path / "patients.csv").write_text(
        "id,entered,age,sex,site,followed_until,died\n1,2021-01-01,60,F,A,2022-01-01,2021-06-01\n"
        "2,2021-02-01,50,M,B,2022-01-01,\n"
    )
    (tmp_path / "labs.csv").write_text(
        "id,drawn,reported,test,result,unit\n1,2021-01-02,2021-01-04,bilirubin,17.1,umol/L\n"
        "2,2021-02-01,2021-02-01,albumin,40,g/L\n"
    )
    (tmp_path / "visits.csv").write_text(
        "id,visited,weight,systolic,oedema\n1,2021-03-01,70,120,\n2,2021-03-01,,130,1\n"
    )
    cohort = read_cohort("labs-visits", tmp_path)
    lab = build_graphs(cohort.at("2021-01-04", patient="1"))["lab"]
    assert lab.value.tolist() == [pytest.approx(1.0, abs=0.01)]
    assert not len(build_graphs(cohort.at("2021-01-03", patient="1"))["lab"].code)
    assert cohort.codes["visit"] == ("other", "weight", "systolic", "oedema")
    assert cohort.outcomes["death"].event.tolist() == [1, 0]


@pytest.mark.parametrize(
    "birth, columns, want",
    [
        ('"born"', {"born": ["1960-01-01", "1700-01-01", ""]}, [60, None, None]),
        ('{ age = "a", year = "y" }', {"a": [50, 91, 300], "y": [2010, 2021, 2020]}, [60, 90, None]),
    ],
)
def test_age_from_birth(tmp_path, birth, columns, want):
    from gnnpatient import read_cohort

    patient = 'table = "p.csv"\nkey = "id"\norigin = "day"\nnumber = ["age"]\n'
    toml = f'cohort = "c"\n[patient]\n{patient}birth = {birth}\n'
    frame = pl.DataFrame({"id": ["1", "2", "3"], "day": ["2020-01-01"] * 3, **columns})
    frame.write_csv(tmp_path / "p.csv")
    (tmp_path / "c.toml").write_text(toml)
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    for age, years in zip(cohort.number[:, 0].tolist(), want, strict=True):
        assert np.isnan(age) if years is None else abs(age - years) < 0.01
    assert any("above 120" in flag for flag in cohort.report["flags"])
    (tmp_path / "c.toml").write_text(toml.replace('number = ["age"]\n', ""))
    with pytest.raises(InputError, match='birth makes the age at day 0: name it, number = \\["age"\\]'):
        read_cohort(tmp_path / "c.toml", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name, write_tables", [("mimic-iv", mimic_iv), ("mimic-iii", mimic_iii)])
def test_from_the_tables_to_an_ask(name, write_tables, tmp_path, good):
    write_tables(tmp_path / "tables")
    good("pack", name, "--data", tmp_path / "tables", "--out", tmp_path / "cohort")
    few = ["--members", 1, "--epochs", 2, "--outcome", "leaving"]
    good("fit", tmp_path / "cohort", "--out", tmp_path / "run", *few)
    patient = json.loads((tmp_path / "run" / "split.json").read_text())["test"][0]
    answer = good("ask", tmp_path / "run", tmp_path / "cohort", "--patient", patient, "--at", "1d", "--json")
    assert answer["at_risk"] and answer["known"]["lab"]
    leaving = answer["outcomes"]["leaving"]
    total = np.array(leaving["event_free"]) + sum(map(np.array, leaving["incidence"].values()))
    assert np.allclose(total, 1, atol=1e-6)
