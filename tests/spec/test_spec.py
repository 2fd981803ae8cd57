import pytest

from gnnpatient.errors import InputError

BASE = """
cohort = "c"
[patient]
table = "p.csv"
key = "id"
number = ["age"]
[timepoints]
every = "1d"
[units]
crp = { to = "mg/L", from = { "mg/dL" = 10, "g/L" = { factor = 1000.0 } }, range = [0, 500] }
[tables."p.csv"]
separator = ";"
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
edges = ["same", "at"]
[nodes.sign]
table = "p.csv"
time = "day"
columns = { edema = "" }
[outcomes.death]
kind = "survival"
table = "p.csv"
causes = { death = { time = "end", flag = "died" } }
"""


@pytest.fixture
def reads(tmp_path):
    def read(text: str):
        from gnnpatient import read_spec

        (tmp_path / "c.toml").write_text(text)
        return read_spec(tmp_path / "c.toml")

    return read


WRONG = [  # what is replaced, by what, what is said
    ('cohort = "c"', 'cohort = "c"\nsuorce = "x"', r"top level: unknown key 'suorce'; did you mean 'source'"),
    ('key = "id"', 'key = "id"\norigni = "x"', r"patient: unknown key 'origni'; did you mean 'origin'"),
    ('every = "1d"', 'evry = "1d"', r"timepoints: unknown key 'evry'; did you mean 'every'"),
    (
        'separator = ";"',
        'seperator = ";"',
        r"tables\.p\.csv: unknown key 'seperator'; did you mean 'separator'",
    ),
    ('code = "code"', 'cod = "code"', r"nodes\.lab: unknown key 'cod'; did you mean 'code'"),
    ('flag = "died"', 'flg = "died"', r"causes\.death: unknown key 'flg'; did you mean 'flag'"),
    ("range = [0, 500]", "rnge = [0, 500]", r"units\.crp: unknown key 'rnge'; did you mean 'range'"),
    ("factor = 1000.0", "facter = 1000.0", r"g/L: unknown key 'facter'; did you mean 'factor'"),
    ("range = [0, 500]", "range = [500, 0]", "give the lowest value, then the highest"),
    ('table = "labs.csv"\n', "", r"nodes\.lab\.table: this key is needed"),
    ('number = ["age"]', 'number = "age"', r"patient\.number: .* list"),
    ('number = ["age"]', 'number = ["end"]', "static column 'end' is part of outcome 'death'"),
    ('number = ["age"]', 'number = ["age"]\ncategory = ["age"]', "both number and category"),
    ('every = "1d"', 'every = "1 fortnight"', "duration '1 fortnight'; write a number and one of"),
    ('every = "1d"', 'every = "0d"', "it must be > 0"),
    ('edges = ["same", "at"]', 'edges = ["same"]', "without 'at'"),
    ('edges = ["same", "at"]', 'edges = ["at", "sane"]', "unknown relation 'sane'; did you mean 'same'"),
    ('code = "code"\n', "", "either code = COLUMN"),
    (
        'columns = { edema = "" }',
        'columns = { edema = "" }\nvalue = "v"',
        r"value belongs to a long table.*; columns = {\.\.\.} makes this a wide table: remove",
    ),
    ('columns = { edema = "" }', "columns = {}", "names no column"),
    (
        'columns = { edema = "" }',
        'columns = { edema = "" }\nvalu = "v"\ncode = "c"',
        r"unknown key 'valu'; .* 'value'",
    ),
    ('columns = { edema = "" }', 'of = "lab"', r"table belongs to .*; of = NAME makes this ancestor nodes"),
    ("[nodes.sign]", '[nodes.up]\nof = "lab"\n[nodes.sign]', r"nodes\.up\.hierarchy: this key is needed"),
    (
        'code = "code"',
        'code = "code"\nfle = "x"\nroot = "r"',
        r"nodes\.lab: unknown key 'fle'; did you mean 'file'",
    ),
    ('code = "code"', 'code = "code"\nlevel = 2', "level = 2 needs hierarchy = NAME"),
    ("[nodes.sign]", "[nodes.timepoint]", "choose another name"),
    ("[nodes.sign]", '[nodes."../x"]', "choose another name"),
    ("[outcomes.death]", '[outcomes."a/b"]', "choose another name"),
    ('kind = "survival"', 'kind = "survivl"', r"outcomes\.death\.kind"),
    ("causes = { death", "causes = { event_free", "is a reserved name"),
    ('causes = { death = { time = "end", flag = "died" } }', "causes = {}", "at least one cause"),
    ('causes = { death = { time = "end", flag = "died" } }', "", "either causes"),
    ('separator = ";"', 'separator = ";;"', "separator"),
    (
        'kind = "survival"',
        'kind = "survival"\nwindow = "1d"',
        "outcomes.death: window belongs to another kind",
    ),
    ("[patient]", "[patient", "c.toml"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_a_wrong_spec_is_refused_in_one_line(reads, old, new, message):
    assert BASE.count(old) >= 1
    with pytest.raises(InputError, match=message) as refused:
        reads(BASE.replace(old, new))
    assert "\n" not in str(refused.value) and "c.toml" in str(refused.value)


def test_neither_a_file_nor_a_name(tmp_path):
    from gnnpatient import read_spec

    with pytest.raises(InputError, match=r"neither a file nor a shipped cohort; shipped: .*pbc"):
        read_spec("pcb")
    (tmp_path / "c.yaml").write_text("a: 1")
    with pytest.raises(InputError, match="no other format"):
        read_spec(tmp_path / "c.yaml")


def test_json_and_back(reads):
    from gnnpatient import GraphSpec, read_spec

    for spec in (reads(BASE), read_spec("pbc")):
        again = GraphSpec.from_json(spec.to_json())
        assert again == spec and again.hash == spec.hash
        assert GraphSpec.model_validate_json(spec.to_json()) == spec


def test_the_hash_follows_meaning_not_wording(reads):
    base = reads(BASE).hash
    assert reads("# a comment\n" + BASE.replace('cohort = "c"', 'cohort = "c"\nsource = "here"')).hash == base
    assert reads(BASE.replace('every = "1d"', 'every = "2d"')).hash != base
    sign = BASE[BASE.index("[nodes.sign]") : BASE.index("[outcomes")]
    assert reads(BASE.replace(sign, "").replace("[nodes.lab]", sign + "[nodes.lab]")).hash != base


def test_edge_types_are_complete_and_in_order(reads):
    types = reads(BASE).edge_types
    assert types == (
        ("lab", "at", "timepoint"),
        ("timepoint", "rev_at", "lab"),
        ("lab", "next", "lab"),
        ("lab", "rev_next", "lab"),
        ("lab", "same", "lab"),
        ("lab", "rev_same", "lab"),
        ("lab", "first", "lab"),
        ("lab", "rev_first", "lab"),
        ("sign", "at", "timepoint"),
        ("timepoint", "rev_at", "sign"),
        ("sign", "next", "sign"),
        ("sign", "rev_next", "sign"),
        ("sign", "same", "sign"),
        ("sign", "rev_same", "sign"),
        ("sign", "first", "sign"),
        ("sign", "rev_first", "sign"),
        ("timepoint", "of", "patient"),
        ("patient", "rev_of", "timepoint"),
        ("timepoint", "next", "timepoint"),
        ("timepoint", "rev_next", "timepoint"),
    )


def test_rows_that_may_have_an_end_are_joined_to_what_happened_during_them(reads):
    ends = reads(BASE.replace("[nodes.lab]", '[nodes.lab]\nuntil = "stopped"'))
    assert ends.interval_types == ("lab",) and reads(BASE).interval_types == ()
    assert [e for e in ends.edge_types if e[1] == "during"] == [
        ("lab", "during", "lab"),
        ("lab", "during", "sign"),
    ]
    ends = reads('cohort = "c"\nformat = "omop"\n[nodes.drug]\ntable = "drug_exposure"\n')
    assert ends.interval_types == ("drug",)  # the format has ends, whether the spec names them or not


def test_a_row_is_tracked_in_a_long_table_alone(reads):
    assert reads(BASE.replace("[nodes.lab]", '[nodes.lab]\ntrack = "eye"')).nodes["lab"].track == "eye"
    with pytest.raises(
        InputError, match=r"track belongs to a long table; columns = .* makes this a wide table"
    ):
        reads(BASE.replace("[nodes.sign]", '[nodes.sign]\ntrack = "eye"'))
    died = BASE.replace("[nodes.lab]", '[nodes.lab]\ntrack = "died"').replace("labs.csv", "p.csv")
    with pytest.raises(InputError, match=r"nodes\.lab: column 'died' is part of outcome 'death'"):
        reads(died)


LONG = "x" * 65
NAMES = [
    ("[nodes.sign]", "[nodes.LAB]", "equal to 'lab' but for case"),
    ("[nodes.sign]", "[nodes.Aux]", "Windows keeps for a device"),
    ("[outcomes.death]", "[outcomes.com1]", "Windows keeps for a device"),
    ("[nodes.sign]", f"[nodes.{LONG}]", "at most 64 letters"),
    ("[outcomes.death]", f"[outcomes.{LONG}]", "at most 64 letters"),
    ("[nodes.sign]", '[nodes."../../out"]', "choose another name"),
    ("[outcomes.death]", '[outcomes."../../out"]', "choose another name"),
    ("[outcomes.death]", '[outcomes."death\\u0000"]', "choose another name"),
    ("{ death = {", '{ "../../out" = {', r"outcomes\.death\.causes: '\.\./\.\./out' is not a name"),
    ("{ death = {", '{ ".." = {', "is not a name"),
    ("{ death = {", '{ "a\\\\b" = {', "is not a name"),
    ("{ death = {", '{ "a\\u0000b" = {', "is not a name"),
    ("{ death = {", '{ "a\\nb" = {', "is not a name"),
    ("{ death = {", '{ "\\u001b[31mred" = {', "is not a name"),
    ("{ death = {", '{ "" = {', "is not a name"),
    ("{ death = {", f'{{ "{"y" * 201}" = {{', "at most 200 letters"),
]


@pytest.mark.parametrize(("old", "new", "says"), NAMES)
def test_a_name_of_which_no_file_can_be_made_is_refused(reads, old, new, says):
    assert old in BASE
    with pytest.raises(InputError, match=says) as refusal:
        reads(BASE.replace(old, new))
    assert str(refusal.value).isprintable()


def test_a_class_is_a_name_too_and_free_words_are(reads):
    label = """
[outcomes.icu]
kind = "diagnosis"
table = "p.csv"
column = "icu"
classes = { N = "no", Y = "WORD" }
"""
    with pytest.raises(InputError, match=r"outcomes\.icu\.classes: 'a/b' is not a name"):
        reads(BASE + label.replace("WORD", "a/b"))
    words = BASE.replace("{ death = {", '{ "liver transplant (first), Größe 3.5%" = {')
    spec = reads(words + label.replace("WORD", "yes: by X-ray"))
    assert spec.outcomes["death"].cause_names == ("liver transplant (first), Größe 3.5%",)
    assert spec.outcomes["icu"].class_names == ("no", "yes: by X-ray")


FLAG = 'causes = { death = { time = "end", flag = "d" } }'
STATUS = 'status = { column = "s", time = "end", states = { a = "censored", b = "death" } }'


@pytest.mark.parametrize(
    ("outcome", "where", "column"),
    [
        (FLAG, '{ d = "1" }', "d"),
        (FLAG, '{ end = "1*" }', "end"),
        (FLAG, '{ d = ["0", "1"] }', None),
        (FLAG, '{ d = "*", end = "*" }', None),
        (FLAG, '{ sex = "f" }', None),
        ('causes = { death = { time = "end" } }', '{ end = "*" }', "end"),
        ('causes = { death = { time = "end", where = { kind = "death" } } }', '{ kind = "birth" }', None),
        (STATUS, '{ s = "b" }', "s"),
        (STATUS, '{ s = ["a", "b"] }', None),
    ],
)
def test_who_is_a_patient_does_not_hang_on_the_answer(tmp_path, outcome, where, column):
    from gnnpatient.spec.graph import read_spec

    text = f'cohort = "c"\n[patient]\ntable = "p.csv"\nkey = "id"\nwhere = {where}\n'
    text += f'[outcomes.death]\nkind = "survival"\ntable = "p.csv"\n{outcome}\n'
    (tmp_path / "c.toml").write_text(text)
    if column is None:
        assert read_spec(tmp_path / "c.toml").patient.where
    else:
        with pytest.raises(InputError, match=f"chooses by column '{column}', a part of outcome 'death'"):
            read_spec(tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("where", "right"),
    [('{ ill = "yes" }', False), ('{ ill = ["yes", "no"] }', True), ('{ ill = "*" }', True)],
)
def test_nor_on_a_diagnosis(tmp_path, where, right):
    from gnnpatient.spec.graph import read_spec

    text = f'cohort = "c"\n[patient]\ntable = "p.csv"\nkey = "id"\nwhere = {where}\n'
    text += '[outcomes.dx]\nkind = "diagnosis"\ntable = "p.csv"\ncolumn = "ill"\n'
    (tmp_path / "c.toml").write_text(text + 'classes = { yes = "yes", no = "no" }\n')
    if right:
        read_spec(tmp_path / "c.toml")
    else:
        with pytest.raises(InputError, match="chooses by column 'ill'"):
            read_spec(tmp_path / "c.toml")


def test_nor_on_the_death_that_a_format_tells(tmp_path):
    from gnnpatient.spec.graph import read_spec

    (tmp_path / "c.toml").write_text(
        'cohort = "c"\nformat = "fhir"\n[patient]\nwhere = { deceased = "true" }\n'
    )
    with pytest.raises(InputError, match="column 'deceased'; it says what came of a person later"):
        read_spec(tmp_path / "c.toml")
