"""An example of each table of a spec, for docs/spec.md. Every key is in one; the tests read them all.

An example is a part of a spec: where it has no cohort or no [patient], `complete` adds them.
"""

from __future__ import annotations

import tomllib
from typing import Any

EXAMPLES: dict[str, tuple[str, ...]] = {
    "top level": (
        """
cohort = "heart-clinic"
source = "the registry of a clinic, 2010 to 2020; not public"

[tables."labs.csv"]
separator = ";"

[patient]
table = "patients.csv"
key = "pid"
origin = "registered"

[timepoints]
every = "30d"

[units]
creatinine = { to = "mg/dL", from = { "umol/L" = 0.01131 } }

[hierarchies.icd]
prefix = "ICD10"

[nodes.lab]
table = "labs.csv"
time = "drawn"
code = "analyte"
value = "result"
unit = "unit"

[nodes.diagnosis]
table = "diagnoses.csv"
time = "coded"
code = "icd10"
hierarchy = "icd"

[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "last_seen", flag = "died" } }
""",
        """
cohort = "hospital"
format = "omop"                                  # or "fhir", "meds": the folder's own tables

[nodes.measurement]
table = "measurement"
""",
    ),
    '[tables."FILE"]': (
        """
[tables."befunde.csv"]
key = "patnr"                                    # called otherwise in [patient]
encoding = "latin1"
separator = ";"
decimal = ","
missing = ["NA", "-9"]
time = { format = "%d.%m.%Y %H:%M", timezone = "Europe/Berlin" }
join = { table = "dictionary.csv", by = "itemid", columns = ["label"] }
""",
    ),
    '[tables."FILE"] time = { ... }': (
        """
[tables."vitals.csv"]
time = { unit = "min" }                          # minutes after the origin

[tables."visits.csv"]
time = { format = "%d.%m.%Y", timezone = "Europe/Berlin" }
""",
    ),
    '[tables."FILE"] join = { ... }': (
        """
[tables."labevents.csv"]                         # names of laboratory items from the dictionary
join = { table = "d_labitems.csv", by = "itemid", columns = ["label"] }

[tables."admissions.csv"]                        # what is known of the person, under another name
join = [
  { table = "persons.csv", by = { person = "id" }, columns = { sex = "gender" } },
  { table = "wards.csv", by = ["site", "ward"], columns = ["speciality"] },
]

[nodes.lab]
table = "labevents.csv"
time = "charttime"
code = "label"
value = "valuenum"
""",
    ),
    "[patient]": (
        """
[patient]
table = "patients.csv"
key = "pid"
where = { study_arm = ["A", "B"] }
number = ["age", "bmi"]
category = ["sex", "smoker"]
first = ["bmi"]                                  # differs between the rows of a patient: the earliest counts
known = "0d"
origin = "admitted"
birth = "born"                                   # a date: age, in years at day 0
entry = "1d"                                     # who dies on the first day never enters
exit = "last_contact"
group = "hospital"
""",
    ),
    "[patient] birth = { ... }": (
        """
[patient]
table = "admissions.csv"
key = "hadm_id"
origin = "admittime"
number = ["age"]                                 # in years at day 0
birth = { age = "anchor_age", year = "anchor_year" }
""",
    ),
    "[patient] origin, entry or exit = { ... }": (
        """
[patient]
table = "patients.csv"
key = "pid"
origin = { table = "admissions.csv", column = "admitted", where = { ward = "ICU*" }, pick = "first" }
""",
        """
format = "meds"

[patient]
origin = { code = "HOSPITAL_ADMISSION//*", pick = "first" }
exit = { code = "*", pick = "last" }
""",
        """
[patient]
table = "patients.csv"
key = "pid"
entry = { node = "diagnosis", code = ["C50*", "D05*"], pick = "first" }

[nodes.diagnosis]
table = "diagnoses.csv"
time = "coded"
code = "icd10"
""",
    ),
    "[timepoints]": (
        """
[timepoints]
every = "1d"                                     # a day on a ward; 30d for visits, 1h in intensive care
""",
    ),
    "[units] CODE = { ... }": (
        """
[units]
glucose = { to = "mg/dL", from = { "mmol/L" = 18.016 }, range = [10, 2000] }
"LAB//sodium//*" = { to = "mmol/L", from = { "mEq/L" = 1, "" = 1 } }
""",
    ),
    "[units] CODE = { from = { UNIT = ... } }": (
        """
[units]
temperature = { to = "degC", from = { degF = { factor = 0.5556, offset = -17.78 } } }
""",
    ),
    "[hierarchies.NAME]": (
        """
[hierarchies.icd]
prefix = "ICD10"

[hierarchies.own]
table = "families.csv"
child = "code"
parent = "family"
""",
        """
format = "omop"

[hierarchies.concepts]
format = true
""",
    ),
    "[nodes.NAME] read from a table": (
        """
[nodes.lab]
table = "labs.csv"
where = { status = ["final", "corrected"] }
time = "drawn"
known = "resulted"
code = "analyte"
value = "result"
unit = "unit"
bounds = "refuse"                                # a result of <5 is no number
blank = "same"
row = "result_id"                                # a corrected result takes the place of the first
amends = "corrects"
edges = ["at", "next", "same"]

[nodes.drug]
table = "drugs.csv"
time = "started"
until = "stopped"
code = "atc"
hierarchy = "atc"
level = 4                                        # C09AA05 becomes C09AA

[nodes.history]
table = "history.csv"
untimed = "origin"                               # no date: known from day 0 on
code = "condition"

[nodes.report]
table = "reports.csv"
time = "written"
study = "accession"
text = "body"
embed = "hashed"

[hierarchies.atc]
prefix = "ATC"
""",
    ),
    "[nodes.NAME] long table": (
        """
[nodes.lab]                                      # pid,drawn,analyte,result,unit
table = "labs.csv"
time = "drawn"
code = "analyte"
value = "result"
unit = "unit"

[nodes.lesion]                                   # pid,day,lesion_id,measure,mm
table = "lesions.csv"
time = "day"
code = "measure"
value = "mm"
track = "lesion_id"                              # each lesion has a series of its own
""",
    ),
    "[nodes.NAME] wide table: columns": (
        """
[nodes.sign]                                     # pid,day,ascites,pulse
table = "visits.csv"
time = "day"
columns = { ascites = "", pulse = "1/min" }

[nodes.gene]                                     # pid,day,rna_TP53,rna_EGFR and thousands more
table = "expression.csv"
time = "day"
columns = { "rna_*" = "" }
""",
    ),
    "[nodes.NAME] images: file": (
        """
[nodes.image]
table = "images.csv"
time = "taken"
known = "signed"
root = "images"
file = "path"
code = "view"                                    # frontal, lateral
value = "quality"
unit = "scale"
steps = ["stretch", "clahe"]
slices = 4
embed = "efficientnet-lite0"
""",
    ),
    "[nodes.NAME] texts: text": (
        """
[nodes.note]
table = "notes.csv"
time = "written"
known = "signed"
text = "body"
code = "kind"                                    # progress note, letter
value = "pages"
unit = "of"
mask = ["died", "transferred to intensive care", "/[Dd]eath/"]
deidentify = true
embed = "minilm"
""",
    ),
    "[nodes.NAME] ancestors: of": (
        """
[hierarchies.icd]
prefix = "ICD10"

[nodes.diagnosis]
table = "diagnoses.csv"
time = "coded"
code = "icd10"
hierarchy = "icd"

[nodes.family]                                   # I21.4 is_a I21
of = "diagnosis"
hierarchy = "icd"
edges = ["at"]
""",
    ),
    "[nodes.NAME] measurements: measures": (
        """
[nodes.image]
table = "images.csv"
time = "taken"
file = "path"
embed = "handmade"

[nodes.lesion]
measures = "image"
region = "mask"                                  # the column of images.csv with the file of a mask
edges = ["at", "same"]
""",
    ),
    "edges = [{ ... }]": (
        """
[nodes.image]
table = "images.csv"
time = "taken"
file = "path"
study = "accession"
embed = "handmade"

[nodes.note]
table = "notes.csv"
time = "written"
text = "body"
study = "accession"
embed = "hashed"
edges = ["at", { describes = "image", by = "study" }]

[nodes.tumour]
table = "tumours.csv"
time = "measured"
code = "lesion"
value = "diameter"
study = "accession"
edges = ["at", { measures = "image", by = "study" }]
""",
    ),
    '[outcomes.NAME] kind = "survival"': (
        """
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { discharge = { time = "left" }, death = { time = "died" } }
exit = "last_contact"
prevalent = "exclude"

[outcomes.relapse]
kind = "survival"
table = "patients.csv"
status = { column = "state", time = "days", states = { 0 = "censored", 1 = "relapse", 2 = "death" } }
""",
        """
[outcomes.infections]
kind = "survival"
table = "patients.csv"
recurrent = true                                 # every infection counts, until death

[outcomes.infections.causes]
infection = { table = "events.csv", time = "day", where = { event = "infection" } }
death = { time = "died" }

[outcomes.course]                                # in which state, and from when on
kind = "survival"
table = "patients.csv"
states = ["well -> relapse", "relapse -> well", "well -> death", "relapse -> death"]

[outcomes.course.causes]
well = { table = "events.csv", time = "day", where = { event = "remission" } }
relapse = { table = "events.csv", time = "day", where = { event = "relapse" } }
death = { time = "died" }
""",
    ),
    "causes = { CAUSE = { ... } }": (
        """
[nodes.diagnosis]
table = "diagnoses.csv"
time = "coded"
code = "icd10"

[outcomes.event]
kind = "survival"
table = "patients.csv"

[outcomes.event.causes]
death = { time = "last_seen", flag = "died" }                                    # 0 = censored then
stroke = { table = "events.csv", time = "day", where = { event = ["stroke", "TIA"] } }
infarction = { node = "diagnosis", codes = ["I21*", "I22*"] }
""",
        """
[outcomes.infection]
kind = "survival"
table = "intervals.csv"                          # rows from start to stop; infections recur, the first counts
causes = { infection = { start = "tstart", stop = "tstop", flag = "status", pick = "first" } }
""",
    ),
    "status = { ... }": (
        """
[outcomes.death]
kind = "survival"
table = "patients.csv"
status = { column = "status", time = "last_day", states = { 0 = "censored", 1 = "transplant", 2 = "death" } }
""",
        """
[outcomes.death]
kind = "survival"
table = "intervals.csv"                          # the state of a row is reached at its stop

[outcomes.death.status]
column = "state"
start = "tstart"
stop = "tstop"
pick = "last"
states = { 0 = "censored", 1 = "relapse", 2 = "death" }
""",
    ),
    '[outcomes.NAME] kind = "diagnosis"': (
        """
[nodes.diagnosis]
table = "diagnoses.csv"
time = "coded"
code = "icd10"

[nodes.image]
table = "images.csv"
time = "taken"
file = "path"
embed = "handmade"

[outcomes.sepsis]                                # a label in a column, forecast before it is known
kind = "diagnosis"
table = "labels.csv"
column = "sepsis"
known = "decided"
classes = { N = "no", Y = "yes" }
gap = "6h"
hide = ["A40*", "A41*"]                          # codes that give it away

[outcomes.diabetes]                              # a code within a year
kind = "diagnosis"
node = "diagnosis"
codes = ["E10*", "E11*"]
horizon = "1y"
gone = "death"

[outcomes.stage]                                 # classes that rise
kind = "diagnosis"
table = "labels.csv"
column = "stage"
ordered = ["I", "II", "III", "IV"]

[outcomes.findings]                              # several labels, a column each
kind = "diagnosis"
table = "labels.csv"
labels = ["edema", "effusion", "nodule"]
classes = { 0 = "no", 1 = "yes" }

[outcomes.heart]                                 # several labels, codes within a year
kind = "diagnosis"
node = "diagnosis"
labels = { infarction = ["I21*", "I22*"], failure = "I50*" }
horizon = "1y"

[outcomes.pneumonia]                             # what an image shows, and nothing else is seen
kind = "diagnosis"
table = "labels.csv"
column = "pneumonia"
when = "same"
inputs = ["image"]

[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "died" } }
""",
        """
format = "meds"

[outcomes.mortality]
kind = "diagnosis"
task = "mortality.yaml"
""",
    ),
    '[outcomes.NAME] kind = "progression"': (
        """
[nodes.lab]
table = "labs.csv"
time = "drawn"
code = "analyte"
value = "result"

[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "died" } }

[outcomes.bilirubin]                             # its value a year ahead, as measured within 60 days of that
kind = "progression"
node = "lab"
codes = ["bilirubin"]
target = "change"
window = "60d"

[outcomes.kidney]                                # until creatinine has risen by half
kind = "progression"
node = "lab"
codes = ["creatinine"]
worse = { times = 1.5 }
horizon = "2y"
gone = "death"
""",
    ),
    "worse = { ... }": (
        """
[nodes.lab]
table = "labs.csv"
time = "drawn"
code = "analyte"
value = "result"

[outcomes.rise]
kind = "progression"
node = "lab"
codes = ["creatinine"]
worse = { plus = 0.3 }
horizon = "7d"

[outcomes.double]
kind = "progression"
node = "lab"
codes = ["creatinine"]
worse = { times = 2 }
horizon = "90d"

[outcomes.low]
kind = "progression"
node = "lab"
codes = ["potassium"]
worse = { reaches = 5.5 }
horizon = "7d"
""",
    ),
}


def complete(example: str) -> dict[str, Any]:
    """An example as a whole spec.

    Parameters
    ----------
    example : str
        TOML, as in `EXAMPLES`.

    Returns
    -------
    dict
        What `GraphSpec.model_validate` takes.
    """
    raw = tomllib.loads(example)
    raw.setdefault("cohort", "example")
    if "format" not in raw:
        raw.setdefault("patient", {"table": "patients.csv", "key": "pid"})
    return raw
