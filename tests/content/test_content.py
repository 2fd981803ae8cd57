"""Pictures and texts as nodes: joined by study, one bad file costs one node, any kind may be missing."""

import json
import re

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError

pytestmark = pytest.mark.usefixtures("given_ridge")

pytest.importorskip("PIL")

TOML = """
cohort = "c"
[patient]
table = "patients.csv"
key = "pid"
number = ["age"]
[nodes.image]
table = "images.csv"
time = "day"
known = "known"
root = "images"
file = "path"
study = "acc"
embed = "handmade"
edges = ["at", "next"]
[nodes.note]
table = "notes.csv"
time = "day"
known = "signed"
text = "text"
study = "acc"
embed = "hashed"
mask = ["died"]
edges = ["at", { describes = "image", by = "study" }]
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "end", flag = "died" } }
"""


def draw(folder, n: int = 24, shuffle: int | None = None):
    """Tables of n patients: a third lacks images, a third notes, a third labs; the first one has nothing."""
    from PIL import Image

    (folder / "images").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    images, notes, labs = [], [], []
    for i in range(1, n):
        for k in range(2):
            day, acc = 2.0 * k + i / 100, f"p{i}-{k}"
            if i % 3 != 0:
                pixels = (rng.random((32, 32)) * 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "images" / f"{acc}.png")
                images.append((f"p{i}", day, day + 0.25, f"{acc}.png", acc))
            if i % 3 != 1:
                said = "died" if k else "stable"
                notes.append((f"p{i}", day, day + 0.5, f"Opacity grade {i % 5}, no effusion; {said}.", acc))
            if i % 3 != 2:
                labs.append((f"p{i}", day, "crp", round(float(rng.normal(10, 2)), 2)))
    ends = [(f"p{i}", 40.0 + i, 10.0 + i, i % 2) for i in range(n)]
    frames = {
        "patients": pl.DataFrame(ends, schema=["pid", "age", "end", "died"], orient="row"),
        "images": pl.DataFrame(images, schema=["pid", "day", "known", "path", "acc"], orient="row"),
        "notes": pl.DataFrame(notes, schema=["pid", "day", "signed", "text", "acc"], orient="row"),
        "labs": pl.DataFrame(labs, schema=["pid", "day", "code", "value"], orient="row"),
    }
    for name, frame in frames.items():
        if shuffle is not None:
            frame = frame.sample(fraction=1.0, shuffle=True, seed=shuffle)
        frame.write_csv(folder / f"{name}.csv")
    (folder / "c.toml").write_text(TOML)
    return frames


@pytest.fixture
def reads(tmp_path):
    from gnnpatient import read_cohort

    def read(**how):
        return read_cohort(tmp_path / "c.toml", tmp_path, **how)

    return read


def test_a_report_describes_its_image_once_both_are_known(reads, tmp_path):
    from gnnpatient import build_graphs, open_cohort

    draw(tmp_path)
    cohort = reads()
    again = open_cohort(cohort.save(tmp_path / "packed"))
    for day, images, notes, edges in (
        (0.1, 0, 0, 0),
        (0.3, 1, 0, 0),
        (0.6, 1, 1, 1),
        (2.4, 2, 1, 1),
        (9, 2, 2, 2),
    ):
        for one in (cohort, again):
            graphs = build_graphs(one.at(day, patient="p2"))
            assert (len(graphs["image"]), len(graphs["note"])) == (images, notes)
            edge = graphs.edges["note", "describes", "image"]
            assert (
                edge.shape[1] == edges
                and edge.tolist() == graphs.edges["image", "rev_describes", "note"].flip(0).tolist()
            )
    many = build_graphs(cohort.at(9, patient=["p2", "p5", "p8", "p1", "p3"] * 9))
    source, target = many.edges["note", "describes", "image"]
    assert len(source) == 9 * 3 * 2 and (many["note"].owner[source] == many["image"].owner[target]).all()
    assert (many["note"].age[source] == many["image"].age[target]).all()  # of one study, so of one day
    rows = many["image"].row.numpy()
    assert (many["image"].vector.numpy() == cohort.vectors["image"][rows]).all()


def test_the_order_of_rows_is_nothing(reads, tmp_path):
    draw(tmp_path)
    one = reads()
    draw(tmp_path, shuffle=1)
    two = reads()
    for kind in ("image", "note"):
        for name, column in one.events[kind].columns().items():
            assert column.tobytes() == two.events[kind].columns()[name].tobytes(), (kind, name)
        assert one.vectors[kind].tobytes() == two.vectors[kind].tobytes()


def test_one_content_is_one_vector(reads, tmp_path):
    draw(tmp_path)
    whole = (tmp_path / "images" / "p1-0.png").read_bytes()
    (tmp_path / "images" / "p1-1.png").write_bytes(whole)
    cohort = reads()
    events = cohort.events["image"]
    mine = slice(*events.ptr[cohort.positions("p1")[0] :][:2])
    assert len(set(events.vector[mine].tolist())) == 1 and len(events.vector[mine]) == 2
    assert len(cohort.vectors["note"]) == 10  # five grades, stable or masked


def test_one_bad_file_costs_one_node(reads, tmp_path):
    frames = draw(tmp_path)
    (tmp_path / "images" / "p2-0.png").write_bytes(b"not a picture")
    (tmp_path / "images" / "p4-0.png").unlink()
    outside = [("p5", 1.0, 1.0, name, "x") for name in ("../c.toml", "/etc/hostname", "~/x.png", "")]
    more = pl.DataFrame(outside, schema=frames["images"].schema, orient="row")
    pl.concat([frames["images"], more]).write_csv(tmp_path / "images.csv")
    pl.concat(
        [
            frames["notes"],
            pl.DataFrame([("p5", 1.0, 1.0, "  \t", "x")], schema=frames["notes"].schema, orient="row"),
        ]
    ).write_csv(tmp_path / "notes.csv")
    for how in ({}, {"embed": False}):
        cohort = reads(**how)
        account = cohort.report["tables"]["images.csv"]
        assert account["rows"] == account["used"] + sum(account["refused"].values())
        assert account["used"] == len(frames["images"]) - 2 == len(cohort.events["image"])
        assert sum(account["refused"].values()) == 6 and account["refused"]["image: no such file"] == 1
        assert account["refused"]["image: leads out of the folder"] >= 2
        assert cohort.report["tables"]["notes.csv"]["refused"] == {"blank text": 1}
        assert any("masked that may tell an outcome" in flag for flag in cohort.report["flags"])
    assert cohort.vectors["image"].shape[1] == 0


def test_flags_count_files(reads, tmp_path):
    frames = draw(tmp_path)
    for i in range(2):
        volume = np.random.default_rng(i).random((3, 8, 8))
        volume[:2] = 0
        np.save(tmp_path / "images" / f"dark{i}.npy", volume)
    rows = [("p1", day, day, f"dark{i}.npy", "x") for i in range(2) for day in (9.0, 10.0)]
    more = pl.DataFrame(rows, schema=frames["images"].schema, orient="row")
    pl.concat([frames["images"], more]).write_csv(tmp_path / "images.csv")
    cohort = reads()
    assert len(cohort.events["image"]) > len(frames["images"]) + len(more)  # of each file several frames
    assert [f for f in cohort.report["flags"] if f.startswith("image: ")] == [
        "image: 2 file(s) flagged: constant"
    ]


def test_nothing_is_decoded_outside_the_guard(reads, tmp_path, monkeypatch):
    """Decoders panic, hang and take memory, those of two files of one identifier too; here any call does."""
    pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    from gnnpatient.content.image import dicom as decoder
    from gnnpatient.content.image import read, worker

    def dicom(name: str, seed: int, cut: int = 0) -> tuple[str, float, float, str, str]:
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.Rows = header.Columns = header.BitsAllocated = header.BitsStored = 8
        header.HighBit, header.PixelRepresentation = 7, 0
        pixels = np.random.default_rng(seed).integers(0, 256, 64, dtype=np.uint8).tobytes()
        header.add_new("PixelData", "OB", pixels)
        header.save_as(tmp_path / "images" / name, enforce_file_format=True)
        if cut:
            whole = (tmp_path / "images" / name).read_bytes()
            (tmp_path / "images" / name).write_bytes(whole[:-cut])
        return "p1", 9.0, 9.0 + len(name), name, "x"

    class PanicError(BaseException):
        """As that of a decoder in Rust: no Exception."""

    def panic(*what):
        raise PanicError

    frames = draw(tmp_path)
    good = [dicom("a.dcm", 0), dicom("same.dcm", 0)]
    broken = dicom("broken.dcm", 1, cut=8)
    places = {read: ("load", "read_images"), decoder: ("_dataset", "_stored"), worker: ("read_images",)}
    for module, names in places.items():
        for name in names:
            monkeypatch.setattr(module, name, panic)
    for rows, clashes in (([*good, broken], 0), ([*good, broken, dicom("b.dcm", 2)], 1)):
        more = pl.DataFrame(rows, schema=frames["images"].schema, orient="row")
        pl.concat([frames["images"], more]).write_csv(tmp_path / "images.csv")
        cohort = reads()
        account = cohort.report["tables"]["images.csv"]
        assert account["refused"] == {"image: pixel data missing or cut short": 1}
        assert account["used"] == account["rows"] - 1
        said = f"image: {clashes} pair(s) of files with one SOPInstanceUID and two contents; both kept"
        assert [f for f in cohort.report["flags"] if "SOPInstanceUID" in f] == [said] * (clashes > 0)


def test_a_picture_taken_away_while_it_is_read_costs_its_node_alone(reads, tmp_path, monkeypatch):
    from gnnpatient.content.image import files

    draw(tmp_path)
    whole = len(reads(embed=False).events["image"])
    gone = sorted((tmp_path / "images").iterdir())[0]
    known = files.fingerprint

    def fingerprint(path):
        if path.name == gone.name:
            gone.unlink(missing_ok=True)
        return known(path)

    monkeypatch.setattr(files, "fingerprint", fingerprint)
    cohort = reads(embed=False)
    assert len(cohort.events["image"]) == whole - 1
    (reason,) = cohort.report["tables"]["images.csv"]["refused"]
    assert reason.startswith("image: ")


def test_flags_count_rows_of_text(reads, tmp_path):
    draw(tmp_path)
    rows = ["The patient died.", "The patient died.", "Died and died, said Dr. Example.", "Stable.", "  "]
    long = "word " * 40_000
    notes = [(f"p{i}", 1.0, 1.0, text, "x") for i, text in enumerate([*rows, long, long])]
    pl.DataFrame(notes, schema=["pid", "day", "signed", "text", "acc"], orient="row").write_csv(
        tmp_path / "notes.csv"
    )
    hidden = 'mask = ["died", "dischraged"]\ndeidentify = true'
    (tmp_path / "c.toml").write_text(TOML.replace('mask = ["died"]', hidden))
    said = [
        "note: 3 row(s) with 'died' masked that may tell an outcome",
        "note: 0 row(s) with 'dischraged' masked that may tell an outcome",
        "note: 1 row(s) de-identified, without guarantee",
    ]
    cut = "note: 2 row(s) embedded in part: long text: its first and last 1 pieces of 5120 words count"
    assert [flag for flag in reads(embed=False).report["flags"] if flag.startswith("note")] == said
    for _ in range(2):  # embedded, then from the cache
        flags = reads(cache=tmp_path / "cache").report["flags"]
        assert [flag for flag in flags if flag.startswith("note")] == [*said, cut]


def test_a_masked_note_is_the_same_whoever_it_names(reads, tmp_path):
    """What is embedded under a cut does not depend on what stands after it, de-identified or not."""
    draw(tmp_path)
    ends = ["Patient day-10 died on the ICU.", "Case 12th day intubated.", "Well on day 9."]
    notes = [(f"p{i}", 1.0, 1.0, f"Fever. {end}", "x") for i, end in enumerate(ends)]
    pl.DataFrame(notes, schema=["pid", "day", "signed", "text", "acc"], orient="row").write_csv(
        tmp_path / "notes.csv"
    )
    for more in ("", "\ndeidentify = true"):
        (tmp_path / "c.toml").write_text(TOML.replace('mask = ["died"]', f'mask = ["cut after day 3"]{more}'))
        assert len(reads().vectors["note"]) == 1


def test_any_kind_may_be_missing(reads, tmp_path):
    from gnnpatient import PrognosisModel, load_predictor
    from gnnpatient.files import sealed

    draw(tmp_path)
    cohort = reads()
    asks = cohort.landmarks(times=[0, 3, 6]).followed()
    model = PrognosisModel(members=1, epochs=2, horizon=20.0, channels=8).fit(asks)
    model.save_pretrained(tmp_path / "model")
    answers = load_predictor(tmp_path / "model").forecast(asks)["death"].incidence
    assert np.allclose(answers, model.forecast(asks)["death"].incidence) and np.isfinite(answers).all()
    for kinds in ([], ["image"], ["note"], ["lab"], ["image", "lab"]):
        seen = cohort.only(kinds)
        asks = seen.at(5).followed()
        whole = model.forecast(asks)["death"].incidence
        alone = np.concatenate([model.forecast(asks[i])["death"].incidence for i in range(6)])
        assert np.abs(alone - whole[:6]).max() < 1e-5 and np.allclose(whole.sum(1), 1)
    held = json.loads((tmp_path / "model" / "config.json").read_text())
    del held["digest"]
    words = held["model"]["vocabulary"]
    assert words["vectors"]["image"]["columns"] == cohort.vectors["image"].shape[1]
    from safetensors.torch import load_file

    # the axes are of all families and members: in the file once, beside the vocabulary
    names = list(load_file(tmp_path / "model" / "model.safetensors"))
    assert [name for name in names if name.endswith("mean") or "axes" in name] == [
        name for i in range(len(words["vectors"])) for name in (f"vectors.{i}.axes", f"vectors.{i}.mean")
    ]
    for part in ("columns", "kept", "lasting", "drifting"):  # no size of a tensor is taken on trust
        for wrong in (-1, 10**12):
            axes = words["vectors"]["image"] | {part: wrong}
            other = words | {"vectors": words["vectors"] | {"image": axes}}
            tampered = held | {"model": held["model"] | {"vocabulary": other}}
            (tmp_path / "model" / "config.json").write_text(sealed(tampered))
            with pytest.raises(InputError, match=r"do not fit together|not the config"):
                load_predictor(tmp_path / "model")


def test_modality_dropout_hides_whole_kinds(reads, tmp_path):
    from gnnpatient import PrognosisModel

    draw(tmp_path)
    asks = reads().landmarks(times=[0, 3, 6]).followed()

    def fit(share):
        choices = {"members": 1, "epochs": 3, "horizon": 20.0, "channels": 8, "batch_size": 16}
        losses = []  # of training: what is kept may be the state before it
        model = PrognosisModel(**choices, families=("graph",), min_patients=1, kind_dropout=share)
        model.fit(asks, progress=lambda *_, **facts: losses.append(facts.get("loss")))
        return [loss for loss in losses if loss is not None]

    assert len(fit(None)) >= 3 and fit(None) == fit(0.2) and fit(0.0)[1:3] != fit(0.2)[1:3]
    with pytest.raises(InputError, match="kind_dropout 1"):
        fit(1.0)


WRONG = [
    ('embed = "handmade"\n', "", r"nodes\.image\.embed: this key is needed"),
    (
        'text = "text"\n',
        'text = "text"\nfile = "x"\n',
        "text belongs to texts; file = COLUMN makes this images: remove",
    ),
    (
        'value = "value"',
        'value = "value"\nembed = "hashed"',
        "embed belongs to images or texts; without file = COLUMN or text = COLUMN",
    ),
    (
        'value = "value"',
        'value = "value"\nmask = ["x"]',
        "mask belongs to texts; without text = COLUMN this is a long table",
    ),
    (
        'value = "value"',
        'value = "value"\nroot = "x"',
        "root belongs to images; without file = COLUMN this is a long table",
    ),
    ('describes = "image"', 'describes = "imag"', "'imag' cannot be used here; did you mean 'image'"),
    ('describes = "image"', 'describes = "lab"', "'lab' cannot be used here"),
    ('describes = "image"', 'explains = "image"', "explains"),
    ('study = "acc"\nembed = "hashed"', 'embed = "hashed"', "needs study = COLUMN"),
    ('embed = "handmade"', 'embed = "handmaid"', "handmaid"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_a_wrong_spec_is_refused_in_one_line(reads, tmp_path, old, new, message):
    draw(tmp_path)
    assert old in TOML
    (tmp_path / "c.toml").write_text(TOML.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as error:
        reads()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("term", "message"),
    [("cut after 3 days", "names no day to cut after"), ("/(/", "fix the expression"), ("", "is empty")],
)
def test_a_term_that_cannot_be_is_refused_before_any_text(tmp_path, term, message):
    from gnnpatient import read_spec

    (tmp_path / "c.toml").write_text(TOML.replace('mask = ["died"]', f'mask = ["died", "{term}"]'))
    with pytest.raises(InputError, match=rf"nodes\.note\.mask: mask '{re.escape(term)}': .*{message}"):
        read_spec(tmp_path / "c.toml")


def test_vectors_of_another_encoder_are_refused(reads, tmp_path):
    from gnnpatient import PrognosisModel, load_predictor

    draw(tmp_path)
    choices = {"members": 1, "epochs": 1, "horizon": 20.0, "channels": 8}
    model = PrognosisModel(**choices).fit(reads().landmarks(times=[0, 3]).followed())
    model.save_pretrained(tmp_path / "model")
    predictor = load_predictor(tmp_path / "model")
    steps = TOML.replace('embed = "handmade"', 'embed = "hashed"').replace('file = "path"', 'text = "path"')
    (tmp_path / "c.toml").write_text(steps.replace('root = "images"\n', ""))
    other = reads()
    with pytest.raises(InputError, match=r"image: embedded by 'hashed@1.*', the model by 'handmade@1"):
        predictor.forecast(other.at(3).followed())
    without = other.only(["note", "lab"]).at(3).followed()  # nothing of that kind, nothing to mistake
    assert np.isfinite(predictor.forecast(without)["death"].incidence).all()


OTHERWISE = [
    ('embed = "handmade"', 'embed = "handmade"\nsteps = ["clahe"]', r"image: .*; clahe, 8 slices'"),
    ('embed = "handmade"', 'embed = "handmade"\nslices = 3', r"image: .*; stretch, 3 slices'"),
    ('mask = ["died"]\n', "", r"note: .*; as they are', the model .*; masked by \w{8}'"),
    ('mask = ["died"]', 'mask = ["died"]\ndeidentify = true', r"note: .*; masked by \w{8}, de-identified'"),
]


@pytest.mark.parametrize(("old", "new", "message"), OTHERWISE)
def test_what_is_prepared_otherwise_is_refused(reads, tmp_path, old, new, message):
    from gnnpatient import PrognosisModel

    draw(tmp_path)
    choices = {"members": 1, "epochs": 1, "horizon": 20.0, "channels": 8}
    model = PrognosisModel(**choices).fit(reads().landmarks(times=[0, 3]).followed())
    assert old in TOML
    (tmp_path / "c.toml").write_text(TOML.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        model.forecast(reads().at(3).followed())


def test_the_terms_of_a_mask_are_in_no_model(reads, tmp_path):
    from gnnpatient import PrognosisModel

    draw(tmp_path)
    (tmp_path / "c.toml").write_text(TOML.replace('mask = ["died"]', 'mask = ["zebra"]'))
    choices = {"members": 1, "epochs": 1, "horizon": 20.0, "channels": 8}
    PrognosisModel(**choices).fit(reads().at(3).followed()).save_pretrained(tmp_path / "model")
    assert not [f for f in (tmp_path / "model").iterdir() if b"zebra" in f.read_bytes()]


def test_a_model_of_no_picture_sees_a_cohort_with_pictures(reads, tmp_path):
    """It knows the kind of node and never saw one: they are unknown to it, and no other encoder's."""
    from gnnpatient import PrognosisModel

    draw(tmp_path)
    whole = reads()
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"none")
    bare = reads()
    assert not len(bare.events["image"]) and "image" not in bare.report["encoders"]
    choices = {"members": 1, "epochs": 1, "horizon": 20.0, "channels": 8}
    model = PrognosisModel(**choices).fit(bare.at(3).followed())
    assert np.isfinite(model.forecast(whole.at(3).followed())["death"].incidence).all()
    assert "image" in model.predictor_.unknown(whole)


@pytest.mark.parametrize(
    ("steps", "stretch"),
    [(["none"], False), (["stretch"], True), (["clahe"], True), (["none", "clahe"], True)],
)
def test_none_is_not_stretched_by_the_encoder(reads, tmp_path, monkeypatch, steps, stretch):
    from gnnpatient.content import vectors
    from gnnpatient.content.embed import embed_images

    if "clahe" in steps:
        pytest.importorskip("skimage")
    seen = []

    def embed(*args, **options):
        seen.append(options["stretch"])
        return embed_images(*args, **options)

    draw(tmp_path, n=3)
    (tmp_path / "c.toml").write_text(
        TOML.replace('file = "path"', f'file = "path"\nsteps = {json.dumps(steps)}')
    )
    monkeypatch.setattr(vectors, "embed_images", embed)
    reads()
    assert seen == [stretch]


def test_an_encoder_is_looked_for_before_a_picture_is_opened(reads, tmp_path, monkeypatch):
    """Beside the data first; a check that loads none finds that it is not there, too."""
    from gnnpatient.content import vectors as content

    draw(tmp_path)
    (tmp_path / "c.toml").write_text(TOML.replace('embed = "handmade"', 'embed = "models/vit"', 1))
    monkeypatch.setattr(content, "image_content", lambda *asked: pytest.fail("opened"))
    for embed in (True, False):
        with pytest.raises(InputError, match=r"encoder 'models/vit': no such folder; .*--allow-network"):
            reads(embed=embed)
    seen = []

    def read(kind, node, *rest):
        seen.append(node.embed)
        raise InputError("enough")

    monkeypatch.setattr(content, "image_content", read)
    with pytest.raises(InputError, match="enough"):
        reads(allow_network=True)
    (tmp_path / "models" / "vit").mkdir(parents=True)
    with pytest.raises(InputError, match="enough"):
        reads()
    assert seen == ["models/vit", str(tmp_path / "models" / "vit")]
