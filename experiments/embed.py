"""How fast images and texts become vectors: a bare loop over the encoder, an empty cache, a full one.

Claim: keeping each vector costs little beside making it, and reading it again is nearly free; the vectors are
those of the bare loop.
Last seen: see results/embed.md (command, machine and figures).

    python experiments/embed.py --pictures COVID_DIR/images --texts OPENI_DIR/reports.csv --table embed.md

With `--device cuda` in bfloat16, and seconds of the wall clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.content import texts
from gnnpatient.content.embed import (
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    Embedded,
    embed_images,
    embed_texts,
    make_encoder,
)
from gnnpatient.content.encoder import Encoder
from gnnpatient.content.image.base import UnreadableImageError
from gnnpatient.content.image.files import fingerprint
from gnnpatient.content.image.read import read_images
from gnnpatient.files import atomic_file

BATCH = 32
RUNS = 2  # the fastest counts


def stills(folder: Path, n: int) -> dict[str, np.ndarray]:
    """The first n different images of a folder that can be read, by fingerprint."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.iterdir()):
        if len(found) == n:
            break
        try:
            found[fingerprint(path)] = read_images(path)[0].pixels
        except UnreadableImageError:
            continue
    return found


def bare(how: Encoder, items: list[Any], device: str) -> np.ndarray:
    """What one would write without the library: load the encoder, give it batches, stack what it gives."""
    encode = how.load(device, BATCH)
    return np.concatenate([encode(items[i : i + BATCH]) for i in range(0, len(items), BATCH)])


def line(name: str, how: Encoder, items: list[Any], embed: Callable[..., Embedded], device: str) -> str:
    """Items a second (on a CPU, of its time): bare, cold, cached."""
    clock = time.process_time if device == "cpu" else time.perf_counter

    def cost(call: Callable[..., Any], *args: Any, **named: Any) -> tuple[float, Any]:
        began = clock()
        found = call(*args, **named)
        return clock() - began, found

    bare(how, items[:BATCH], device)  # imports
    times = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            loop, vectors = cost(bare, how, items, device)
            cold, made = cost(embed, cache=Path(folder), device=device)
            cached, again = cost(embed, cache=Path(folder), device=device)
        close = 1e-4 if device == "cpu" else 0.05 * np.abs(vectors).max()  # bfloat16, in other batches
        assert np.allclose(made.matrix[made.row], vectors, atol=close)
        assert np.array_equal(made.matrix[made.row], again.matrix[again.row])
        times.append((loop, cold, cached))
    loop, cold, cached = np.min(times, axis=0)
    rates = " | ".join(f"{len(items) / seconds:.0f}" for seconds in (loop, cold, cached))
    return f"| {name} | {len(items)} | {vectors.shape[1]} | {rates} | {cold / loop:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--texts", type=Path, required=True, help="CSV with the column findings")
    parser.add_argument("--n", type=int, default=400, help="of each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--table", type=Path, required=True, help="Markdown")
    args = parser.parse_args()
    pictures = stills(args.pictures, args.n)
    written = pl.read_csv(args.texts)["findings"].drop_nulls().to_list()
    notes = list(dict.fromkeys(text for text in map(texts.clean, written) if text))[: args.n]
    keys, pixels = list(pictures), list(pictures.values())
    said = ["| encoder | items | channels | bare loop | empty cache | full cache | empty / bare, time |"]
    said += ["|---|" + "---:|" * 6]
    for name in IMAGE_ENCODERS:
        encoder = make_encoder(name, images=True)
        said.append(line(name, encoder, pixels, partial(embed_images, pixels, keys, name), args.device))
    for name in TEXT_ENCODERS:
        encoder = make_encoder(name, images=False)
        said.append(line(name, encoder, notes, partial(embed_texts, notes, name), args.device))
    with atomic_file(args.table) as part:
        part.write_text("\n".join(said) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
