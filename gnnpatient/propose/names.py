"""What names tell: of columns, codes, units and files. They are compared as `plain` gives them."""

import re

ROWS = 200_000  # of a table that are looked at
MIN_PATIENTS = 5  # patients who must share a word before the draft holds it
WORDS = 20  # most words of a category
WIDE = 1000  # a table with more columns is not looked at
MIN_LEAK_AUC = 0.95  # rank AUC for an outcome from which on a column is taken to know it
WHO = "\0who"  # the patient of a row, beside columns of any name
OUTCOME_PART = "part of an outcome"  # why a column is no input

# Who somebody is

KEYS = [  # of a patient; the better ones first
    *("patientid", "subjectid", "usubjid", "personid", "pid", "id", "patient", "subject", "randid", "patnr"),
    *("ptid", "mrn", "patientunitstayid", "icustayid", "stayid", "hadmid", "admissionid", "encounterid"),
    *("caseid", "sno", "nr"),
]
ROW = re.compile(r"(?<!ac)(?<!o)(?<!flu)(?<!lip)(?<!cov)id$|^(sno|index|row|rownr|rownames)$")
PERSON = re.compile(r"^(num|fac)?(age|ageyears|agey|sex|gender|race|ethnicity)$")
GROUP = re.compile(r"^(unique|person|people|famil|household|match|pair|set|case)")
SITE = re.compile(r"(hospital|center|centre|site|clinic|institution|ward)(id|name|code|no|nr)?$")
NOMINAL = re.compile(r"sex|gender|race|ethnic|center|centre|site|arm$|^trt|treat|group|type$")
COUNTER = re.compile(r"^(period|visit|visitno|visitnum|visitnumber|exam|wave|seq|enum)$")
ENTRY = re.compile(r"^entry|entrytime$")

# Outcomes, and what tells them

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
FUTURE = re.compile(
    r"^prev|^surv|prg\d|^dnr|discharge|charge|cost|cst$|lengthofstay|^s?los$|hosp.*d(ea|ie)|"
    r"cause|autopsy|lastcontact|lastseen|^aps$|^sps$|" + DEATH.pattern
)
FUTURE_TEXT = re.compile(r"(?i)leak|future|model output|hindsight")
DEATH_WORDS = r"(?i)death|died|dead\b|deceas|expired|hospice"
DEATH_CODE = r"^(MEDS_DEATH|DEATH)(//|$)"

# Times

CLOCK = re.compile("time|dat|day|offset|delay|year|month|week|hour|start|stop|end")
WHEN = (  # a row happened; the better ones first
    r"^(time|times|day|days|date|datetime|charttime|timestamp|tstart|start|year|month|week|hour)$",
    r"start|drawn|taken|collect|visit|effective|obs",
    r"(time|date|day|days|offset|delay|dt|dtm)$",
)
KNOWN = re.compile(r"result|report|sign|known|issued|revised|enter|record|stor(e|ed)time|verif")
UNTIL = re.compile(r"stop|end|until|abate|^time2$|discharge|outtime")
SPELLED = {  # units of time
    "min": "min(?:ute)?s?", "h": "h(?:ou)?rs?|hours?", "d": "days?", "w": "w(?:ee)?ks?", "mo": "months?|mos",
    "y": "y(?:ea)?rs?",
}  # fmt: skip

# Measurements

CODES = (  # of the column that says what was measured; the better ones first
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
    "drug": "drug|medic", "diagnosis": "diag|dx|icd|condition", "treatment": "treat", "procedure": "proc",
    "exam": "exam",
}  # fmt: skip
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
ANALYTE = {alias: name for name, more in ALIASES.items() for alias in (name, *more.split())}
VITAL = {"sbp", "dbp", "map", "hr", "resp", "temp", "spo2", "weight", "height", "bmi"}
RANGES: dict[str, dict[str, tuple[float, float]]] = {  # what can be, by unit; outside lies a slip
    "sbp": {"mmhg": (30, 320)}, "dbp": {"mmhg": (10, 220)}, "map": {"mmhg": (10, 260)},
    "hr": {"1/min": (0, 350), "bpm": (0, 350)}, "resp": {"1/min": (0, 120)}, "spo2": {"%": (0, 100)},
    "temp": {"c": (20, 45), "f": (68, 113)}, "weight": {"kg": (0.3, 450)},
    "height": {"cm": (20, 260), "m": (0.2, 2.6)}, "bmi": {"kg/m2": (7, 120)},
    "glucose": {"mg/dl": (5, 2000), "mmol/l": (0.3, 111)}, "bun": {"mg/dl": (1, 400)},
    "creatinine": {"mg/dl": (0.05, 50), "umol/l": (4, 4500)}, "lactate": {"mmol/l": (0, 50)},
    "bilirubin": {"mg/dl": (0, 90), "umol/l": (0, 1500)}, "albumin": {"g/dl": (0.3, 8), "g/l": (3, 80)},
    "hemoglobin": {"g/dl": (1, 26), "g/l": (10, 260)}, "sodium": {"mmol/l": (80, 210), "meq/l": (80, 210)},
    "potassium": {"mmol/l": (0.8, 15), "meq/l": (0.8, 15)},
    "cholesterol": {"mg/dl": (20, 3000), "mmol/l": (0.5, 78)},
    "hdl": {"mg/dl": (2, 250), "mmol/l": (0.05, 6.5)}, "ldl": {"mg/dl": (2, 1000), "mmol/l": (0.05, 26)},
}  # fmt: skip
IN_TEXT = re.compile(  # a unit
    r"(?i)(?<![\w/])(mm ?Hg|m?g/d?l|[muf]mol/l|meq/l|kg/m2|U/m?l|kg|cm|bpm|%)(?![\w/])"
)
IN_NAME = re.compile(r"(?i)[(_.\[ ](mm_?hg|mg_?dl|g_?dl|g_?l|mmol_?l|umol_?l|kg_?m2|kg|cm|lbs)[)\]]?$")

# Standard formats

FAMILIES = {  # kind: beginnings of its codes, and its edges
    "lab": (r"LAB|MEASUREMENT|OBSERVATION|VITAL|Blood Pressure|Weight|Height|BMI|SUBJECT_", ["at", "same"]),
    "drug": (r"DRUG|MEDICATION|INFUSION|IMMUNIZATION", ["at"]),
    "diagnosis": (r"DIAGNOSIS|CONDITION|ICD|ALLERGY", ["at"]),
    "procedure": (r"PROCEDURE|HCPCS|CPT|IMAGING|DEVICE|DIAGNOSTICREPORT", ["at"]),
    "stay": (r"VISIT|ENCOUNTER|HOSPITAL|ICU|ED_|TRANSFER|ADMISSION|DISCHARGE", ["at", "next"]),
    "other": ("", ["at"]),
}
