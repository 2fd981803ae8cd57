"""An encoder of one's own, by its name in the spec: what it is given, what is checked, what is remembered."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from gnnpatient import PrognosisModel, open_cohort, read_cohort
from gnnpatient.content.embed import embed_images, embed_texts
from gnnpatient.content.encoder import OwnEncoder
from gnnpatient.errors import InputError

Image = pytest.importorskip("PIL.Image")

SPEC = {
    "cohort": "c",
    "patient": {"table": "patients.csv", "key": "pid"},
    "nodes": {
        "image": {"table": "images.csv", "time": "day", "root": "files", "file": "path", "embed": "mine"},
        "note": {"table": "notes.csv", "time": "day", "text": "text", "embed": "words", "mask": ["died"]},
    },
    "outcomes": {
        "death": {
            "kind": "survival",
            "table": "patients.csv",
            "causes": {"death": {"time": "end", "flag": "died"}},
        }
    },
}
PATIENTS = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the images; the tables are frames."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (folder / "files").mkdir()
    for i in range(PATIENTS):
        pixels = rng.integers(0, 256, (8 + i % 3, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "files" / f"{i}.png")
    return folder


@pytest.fixture
def tables():
    ids = [f"p{i}" for i in range(PATIENTS)]
    texts = [f"Opacity grade {i}, died." for i in range(PATIENTS - 1)] + ["word " * 300]
    return {
        "patients.csv": pd.DataFrame(
            {"pid": ids, "end": np.arange(PATIENTS) + 5.0, "died": np.arange(PATIENTS) % 2}
        ),
        "images.csv": pd.DataFrame({"pid": ids, "day": 0.0, "path": [f"{i}.png" for i in range(PATIENTS)]}),
        "notes.csv": pd.DataFrame({"pid": ids, "day": 1.0, "text": texts}),
    }


def shades(images):
    return torch.tensor([[image.mean(), image.std(), image.shape[0]] for image in images], requires_grad=True)


def lengths(texts):
    return [[len(text), len(text.split())] for text in texts]


class Versioned:
    """An encoder that says which version it is, and counts what it is given."""

    def __init__(self, encode, name):
        self.encode, self.name, self.given = encode, name, []

    def __call__(self, pieces):
        self.given += pieces
        return self.encode(pieces)


def test_it_is_given_the_images_and_texts_of_the_spec(place, tables):
    images, texts = Versioned(shades, "1"), Versioned(lengths, "1")
    cohort = read_cohort(SPEC, tables, files=place, encoders={"mine": images, "words": texts})
    assert {type(image) for image in images.given} == {np.ndarray}
    assert {(image.dtype, image.shape[1]) for image in images.given} == {(np.dtype("float32"), 12)}
    assert all(image.min() == 0 and image.max() == 1 for image in images.given)  # stretched
    assert sorted({image.shape[0] for image in images.given}) == [8, 9, 10]
    assert "Opacity grade 3, [masked]." in texts.given and not any("died" in text for text in texts.given)
    assert max(len(text.split()) for text in texts.given) == 200
    assert cohort.report["encoders"] == {
        "image": "mine@1; stretch, 8 slices",
        "note": f"words@1; {cohort.spec.nodes['note'].prepared}",
    }
    events, vectors = cohort.events["image"], cohort.vectors["image"]
    assert vectors.dtype == np.float32 and vectors.shape == (PATIENTS, 3)
    rows = vectors[events.vector][np.argsort(cohort.ids[events.patient].astype("U9"))]
    heights = np.array([8 + int(name[1:]) % 3 for name in np.sort(cohort.ids)])
    assert rows[:, 2].tolist() == heights.tolist()
    long = cohort.vectors["note"][cohort.vectors["note"][:, 1] > 100]
    assert long[:, 1].tolist() == [(200 + 140) / 2]  # the mean over its two pieces, which share 40 words


@pytest.mark.slow
def test_a_saved_cohort_and_a_model_remember_it(place, tables, tmp_path):
    spec = {**SPEC, "nodes": {"note": SPEC["nodes"]["note"]}}

    def read(version):
        return read_cohort(spec, tables, encoders={"words": Versioned(lengths, version)})

    cohort = read("1")
    assert open_cohort(cohort.save(tmp_path / "cohort")).report["encoders"] == cohort.report["encoders"]
    model = PrognosisModel(members=1, epochs=1, horizon=20.0, channels=8)
    model.fit(cohort.landmarks(times=[2.0]).followed("death"))
    one, again = (model.forecast(c.at(2.0, patient="p3"))["death"].incidence for c in (cohort, read("1")))
    assert np.array_equal(one, again)
    with pytest.raises(InputError, match=r"note: embedded by 'words@2; .*', the model by 'words@1; "):
        model.forecast(read("2").at(2.0, patient="p3"))


def test_vectors_are_kept_by_version_and_never_without_one(tables, tmp_path):
    spec = {**SPEC, "nodes": {"note": SPEC["nodes"]["note"]}}

    def calls(encode, version):
        words = Versioned(encode, version)
        cohort = read_cohort(spec, tables, encoders={"words": words}, cache=tmp_path / "cache")
        return len(words.given), cohort.vectors["note"]

    def doubled(texts):
        return 2 * np.array(lengths(texts))

    first, vectors = calls(lengths, "1")
    assert first > PATIENTS
    for encode, version, given, factor in (
        (lengths, "1", 0, 1),
        (doubled, "2", first, 2),
        (doubled, None, first, 2),
        (lengths, None, first, 1),
    ):
        count, found = calls(encode, version)
        assert count == given and np.array_equal(found, factor * vectors)


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (
            lambda images: np.zeros(len(images)),
            r"encoder mine: gave an array \(32,\) for 32 pieces; give \(32, channel\)",
        ),
        (lambda images: np.zeros((1, 3)), r"encoder mine: gave an array \(1, 3\) for 32 pieces"),
        (
            lambda images: [["a"]] * len(images),
            r"encoder mine: gave list of <U1; give floats, \(32, channel\)",
        ),
        (lambda images: [[1.0], [1.0, 2.0]], "encoder mine: gave list of object"),
        (lambda images: None, "encoder mine: gave NoneType of object"),
        (
            lambda images: np.random.default_rng().normal(size=(len(images), 4)),
            "is it in training mode, or random",
        ),
        (
            lambda images: np.ones((len(images), len(images))),
            "encoder mine: gives the same piece another vector",
        ),
        (
            lambda images: np.full((len(images), 2), np.nan),
            "encoder mine: gave numbers that are not finite",
        ),
    ],
)
def test_what_is_no_encoder_is_refused(encode, message):
    images = list(np.random.default_rng(0).random((PATIENTS, 8, 8), np.float32))
    with pytest.raises(InputError, match=message) as found:
        embed_images(images, [str(i) for i in range(PATIENTS)], OwnEncoder("mine", encode))
    assert "\n" not in str(found.value)


def test_one_piece_without_a_finite_vector_costs_itself():
    def logs(texts):
        return [[float("nan") if "bad" in text else 1.0] for text in texts]

    found = embed_texts(["bad", "good", "fine"], OwnEncoder("logs", logs))
    assert found.row.tolist() == [-1, 0, 1] and found.why[0] == "the encoder gave numbers that are not finite"


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        (None, "encoder 'mine': no such name and no such folder.*read_cohort(..., encoders={'mine': f})"),
        ({"mine": 3}, "encoders: 'mine' is a int; give a function or an object that is called"),
        ({"mine": Versioned}, "encoders: 'mine' is a class; give a function or an object"),
        ({"image": shades}, "encoders: no node type has embed = 'image'; nodes.image has embed = \"mine\""),
        ({"handmade": shades}, "encoders: 'handmade' is the name of an encoder of this package"),
        (shades, "encoders: function; give callables by name, as in {'mine': f}"),
    ],
)
def test_what_is_not_in_the_spec_is_refused(place, tables, encoders, message):
    with pytest.raises(InputError, match=re.escape(message).replace(r"\.\*", ".*")):
        read_cohort(SPEC, tables, files=place, encoders=encoders)
