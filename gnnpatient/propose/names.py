"""What is recognised by name: columns, codes, units and files. Names are compared as `plain` gives them."""

import re

MAX_ROWS = 200_000  # of a table; later rows are not read
MIN_PATIENTS = 5  # who must share a word, so that the draft may contain it
MAX_LEVELS = 20  # of a category
MAX_COLUMNS = 10_000  # of a table
MIN_GROUP = 20  # columns that are called alike, to be a node type
MIN_OMICS = 5  # such columns, where their name says what they are
MIN_LEAK_AUC = 0.95  # rank AUC from which on a column counts as a leak of the outcome
MIN_GIVEN = 0.98  # share with the event from which on having a value at all counts as a leak ...
MAX_CHANCE = 1e-4  # ... and how likely that may be without one
PATIENT = "\0who"  # the patient of a row, beside columns of any name
NUMBERED = "_numbered"  # added to the name of a table whose rows were numbered, as `init` advises
OUTCOME_PART = "part of an outcome"  # the reason of a column that is no input

# Patients and persons

KEYS = [  # of a patient; the better ones first
    *("patientid", "subjectid", "usubjid", "personid", "pid", "id", "patient", "subject", "randid", "patnr"),
    *("ptid", "mrn", "patientunitstayid", "icustayid", "stayid", "hadmid", "admissionid", "encounterid"),
    *("caseid", "sno", "nr"),
]
PERSON_KEYS = [
    *("subjectid", "patientid", "personid", "usubjid", *(f"unique{name}" for name in ("pid", "id")), "pid"),
    *("ptid", "mrn", "patient", "subject", "person", "randid", "patnr", "id"),
]
COUNTED = {"id", "nr", "sno"}  # of the keys those that may number the rows, too
STAY_KEYS = [  # of a stay of a person, the wider ones first
    *(
        "hadmid",
        "admissionid",
        "admid",
        "encounterid",
        "encounter",
        "hospitalizationid",
        "visitoccurrenceid",
        "episodeid",
    ),
    *("spellid", "csn", "caseid", "visitid", "icustayid", "stayid"),
]
ID_OF_PERSON = re.compile(  # a word of a name, also with a word for an id: patnr, fallnummer
    r"^(pat|patients?|patienten|pts?|subj|subjects?|sujet|sujeto|soggetto|persons?|persona|personne|people|"
    r"participants?|partecipante|participante|teilnehmer|teilnehmerin|proband|probanden|proefpersoon|"
    r"pacientes?|paziente|pazienti|patiente|patienter|recipients?|clients?|members?|cases?|caso|fall|fallo|"
    r"records?|study|studie|studien|estudio|etude|usubj|enrollee|enrolee|volunteer|resident|mrn|nhc|"
    r"anon|anonymous|anonym|pseudonyms?|pseudo|pseudonymised|guid|uuid)"
    r"(id|ids|nr|no|num|number|nummer|code|key|kennung)?$"
)
ID_WORD = re.compile(
    r"^(ids?|uid|identifier|identifiant|identificador|identificativo|nr|no|num|number|numero|numéro|número|nummer|"
    r"codes?|codigo|código|codice|labels?|key|kennung|kennziffer|ref|hash)$"
)
ID_OF_OTHERS = re.compile(  # of what is no patient
    r"^(items?|sites?|cent(er|re)s?|clinics?|hospitals?|wards?|zentrum|klinik|sessions?|ses|visits?|visite|"
    r"visita|samples?|specimens?|probe|proben|aliquots?|tubes?|plates?|batch|lots?|encounters?|enc|admissions?|adm|"
    r"hadm|icustay|stays?|episodes?|spells?|aufenthalt|orders?|accession|scans?|images?|series|slides?|rows?|index|"
    r"line|lfd|seq|tests?|labs?|analytes?|drugs?|atc|icd\d*|zip|plz|postal|postcode|phone|doctor|"
    r"physician|provider|nurse|operator|device|assay|proteins?|genes?|famil(y|ies)|fam|famid|house|household|"
    r"pairs?|set|match|matched|cluster|group|stratum|block|event|events)(id|ids|nr|no|num|number|nummer|code)?$"
)
ID_OF_STAY = re.compile(
    r"^(encounters?|enc|admissions?|adm|hadm|icustay|stays?|episodes?|spells?|hospitali[sz]ation|aufenthalt|csn)"
    r"(id|nr|no|num|number|nummer|code|key|label)?$"
)
ROW = re.compile(
    r"(?<!ac)(?<!o)(?<!flu)(?<!lip)(?<!cov)id$|^(sno|index|row|rownr|rownames)$|"
    r"(study|patient|subject|case|record|file|chart|hospital|sample|accession|registration)(no|nr|num|number)$"
)
PERSON = re.compile(r"^(num|fac)?(age|ageyears|agey|sex|gender|race|ethnicity)$")
GROUP = re.compile(r"^(unique|person|people|famil|household|match|pair|set|case)")
SITE = re.compile(r"(hospital|center|centre|site|clinic|institution|ward)(id|name|code|no|nr)?$")
NOMINAL = re.compile(r"sex|gender|race|ethnic|center|centre|site|arm$|^trt|treat|group|type$")
COUNTER = re.compile(
    r"^(period|exam|wave|seq|enum|encounter|admission|visitnum|visitnumber|"
    r"(session|visit|ses)(label|code|id|name|no|nr|num|number)?)$"
)
ENTRY = re.compile(r"^entry|entrytime$")

# Outcomes, and what gives them away

FOLLOWED = re.compile(r"time|offset|tte$|follow|^(days|weeks|months|years)$|surv.*(day|week|month|year)")
BEGINS = re.compile(r"start|diag|onset|admi|birth|entry|^age|random|enrol|baseline|index|surg|intime|inclu")
TOKENS = re.compile(
    r"follow(up)?|time(to)?|offset|tte$|dur(ation)?|^fu|(day|week|month|year)s?$|^surv(ival)?"
)
FLAG = re.compile(r"status|stat\d*$|event|flag|indicator|label|outcome|endpoint|cens(or(ed|ship|ing)?)?$")
DEATH = re.compile(
    r"death|dead|died|dth|mort|expire|deceas|^vital$|^dod$|exitus|verstorben|gestorben|^todes|fallecid"
)
HAPPENS = re.compile(
    FLAG.pattern
    + "|"
    + DEATH.pattern
    + r"|recur|relapse|progress|fail|readmi|convert|conversion|(?<!weight)(?<!blood)(?<!hearing)loss$|tubated"
    + r"|ventilat|^went|^needed"
)
YES, NO = {"1", "true", "yes", "y", "ja", "j"}, {"0", "false", "no", "n", "nein"}
ALIVE = re.compile(r"(?i)^(cens|alive|living|no$|none$|0$|event.?free|withdraw|lost|false$)")
OVERALL = "os|srv|surv|survival|d|dth|mort"  # what is left of the name of a death's time or flag
LABEL = re.compile(
    r"^(label|outcome|target|class|dx|diagnosis|y|responder?|response|yhat|prob|probability|pred|prediction)$|"
    r"^predicted(risk|death|mortality|survival|class|label|outcome|score)?$|" + DEATH.pattern
)
ANSWER = re.compile(r"^(truth|groundtruth|goldstandard|surviv(al|ed|or))$")  # a label where it has few states
ENDPOINT = re.compile(  # a time to one of the usual endpoints, which no name of a time has to say
    r"^(os|pfs|dfs|rfs|efs|mfs|dmfs|lfs|css|dss|ttp|ttr|ttf|srv|surv|survival)(time|days|months|years|weeks|mo|m)?$"
)
UNTIL_EVENT = re.compile(r"^(time|days?|weeks?|months?|years?)(to|until|till)[a-z]")
PAST = re.compile(r"since|prior|before|ago$|hist|sympt|durat|smok|edu|school|expos|work|sleep|last|previous")
SPLIT = re.compile(r"^(is|data)?(train(ing|test)?|split|fold|folds|cvfold|partition|holdout)(id|no|nr|set)?$")
SPLIT_BY_WORDS = re.compile(r"^(data)?(set|subset|test|cohort|group|part|sample)$")
SPLIT_WORDS = re.compile(
    r"(?i)^(train(ing)?|test(ing)?|val(id(ation)?)?|dev(elopment)?|tun(e|ing)|held.?out|hold.?out)$"
)
DISEASE = re.compile(r"(?i)dement|convert|case|control|malign|cancer|positive|disease|healthy")
FUTURE = re.compile(
    r"^prev|^surv|^prg\dm$|^dnr|discharge|charge|cost|cst$|lengthofstay|^s?los(d|h|days?|hours?)?$|hosp.*d(ea|ie)|"
    r"^(aprdrg|msdrg|drg)(code|no)?$|^final|atend$|^(n|nr|no|num|number|numberof|total)(re)?(admission|visit|contact)s?$|"
    r"cause|autopsy|after$|lastcontact|lastseen|^aps$|^sps$|" + DEATH.pattern
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
SPANS = (  # the start of an interval, and what its end is called then
    ("start", "stop"), ("start", "end"), ("begin", "end"), ("entry", "exit"), ("enter", "exit"),
    ("enter", "leave"), ("von", "bis"), ("from", "to"), ("t0", "t1"), ("t1", "t2"), ("time1", "time2"),
)  # fmt: skip
FROM = re.compile("^(from|fromstate|statefrom|startstate|prevstate|previousstate)$")
TO = re.compile("^(to|tostate|stateto|endstate|nextstate)$")
EVENT_TYPE = re.compile(r"^(etype|eventtype|endpoint|typeofevent|event|outcome|cause|type|failtype|kind)$")
ARRIVAL = re.compile(r"admi|^in|intime|arriv|start|begin|onset")
SEEN = re.compile(r"last|^letzt|cens|follow|^fu|^endfu|exit|enddate|studyend|endof|disch|outtime|cutoff")
UNTIL = re.compile(r"stop|end|until|abate|^time2$|disch|outtime")
SPELLED = {  # units of time
    "min": "min(?:ute)?s?", "h": "h(?:ou)?rs?|hours?", "d": "days?", "w": "w(?:ee)?ks?", "mo": "months?|mos",
    "y": "y(?:ea)?rs?",
}  # fmt: skip

# Measurements

CODES = (  # of the column that says what was measured; the better ones first
    r"^(code|concept|itemid|paramcd|testcd)$",
    r"^(test|analyte|item|parameter|variable|measurement|meas|measure|assay|label)$|labname$|testname$",
    r"string$|path$",
    r"drugname$|^drug$|medication$",
    r"name$",
    r"^(event|diagnosis|condition|procedure|treatment)$|^icd|code$|dx$",
)
VALUE = re.compile(r"^(val|aval|amount|quantity|reading)$|result$|value$|valuenum$|valueasnumber$")
OMICS = {  # node type: parts of the names of its columns
    "expression": "rna|rnaseq|expr|expression|gene|mrna|affy|fpkm|tpm",
    "copies": "cnv|cna|copy", "mutation": "mut|mutation|snv",
    "methylation": "meth|methylation|cpg|cg", "mirna": "mir|mirna", "protein": "prot|protein|rppa|olink",
    "metabolite": "met|metab|metabolite|lipid", "variant": "snp|rs|variant", "radiomics": "rad|radiomics",
}  # fmt: skip
GENE = re.compile(r"^[A-Z][A-Z0-9]{1,9}([._-][A-Za-z0-9]{1,5})?$")
UNIT = re.compile(r"units?$|uom$|measurename")
MEANS = {  # node type: names of a table or of its column with codes
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
NO_UNIT = re.compile(
    r"(?i)^(-+|none|na|n/a|text|code|id|date|yes/no|[\d/.-]+|score|" + "|".join(SPELLED.values()) + ")$"
)
IN_TEXT = re.compile(  # a unit
    r"(?i)(?<![\w/])(mm ?Hg|m?g/d?l|[muf]mol/l|meq/l|kg/m2|U/m?l|kg|cm|bpm|%)(?![\w/])"
)
IN_NAME = re.compile(r"(?i)[(_.\[ ](mm_?hg|mg_?dl|g_?dl|g_?l|mmol_?l|umol_?l|kg_?m2|kg|cm|lbs)[)\]]?$")

# Standard formats

FAMILIES = {  # node type: beginnings of its codes, and its relations
    "lab": (r"LAB|MEASUREMENT|OBSERVATION|VITAL|Blood Pressure|Weight|Height|BMI|SUBJECT_", ["at", "same"]),
    "drug": (r"DRUG|MEDICATION|INFUSION|IMMUNIZATION", ["at"]),
    "diagnosis": (r"DIAGNOSIS|CONDITION|ICD|ALLERGY", ["at"]),
    "procedure": (r"PROCEDURE|HCPCS|CPT|IMAGING|DEVICE|DIAGNOSTICREPORT", ["at"]),
    "stay": (r"VISIT|ENCOUNTER|HOSPITAL|ICU|ED_|TRANSFER|ADMISSION|DISCHARGE", ["at", "next"]),
    "other": ("", ["at"]),
}
