"""Images and texts as vectors of nodes, and measurements of images as nodes of their own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gnnpatient.ingest.cells import ids
from gnnpatient.ingest.patients import Patients
from gnnpatient.ingest.rows import Rows
from gnnpatient.ingest.source import SourceTables
from gnnpatient.ingest.units import convert_values
from gnnpatient.spec.nodes import NodeSpec

if TYPE_CHECKING:
    from gnnpatient.content.vectors import EmbedOptions


def study_numbers(source: SourceTables, cells: pl.Series) -> np.ndarray:
    """Number the studies, alike in every node type.

    Parameters
    ----------
    source : SourceTables
        Keeps the number of each study.
    cells : polars.Series
        (row,) str key of each row's study; null = none.

    Returns
    -------
    numpy.ndarray
        (row,) int64, -1 = none.
    """
    for word in cells.drop_nulls().unique().sort():
        source.studies.setdefault(word, len(source.studies))
    if not source.studies:
        return np.full(len(cells), -1)
    return cells.replace_strict(source.studies, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy()


def with_content(
    source: SourceTables, kind: str, node: NodeSpec, rows: Rows, cells: pl.Series, patients: Patients
) -> Rows:
    """The rows that have an image or a text, one a frame or slice; others are refused with the reason.

    Parameters
    ----------
    source : SourceTables
        The tables, with the options of embedding.
    kind : str
        The node type.
    node : NodeSpec
        Its spec, with `file` or `text`.
    rows : Rows
        Its rows.
    cells : polars.Series
        (row,) str: file names or texts.
    patients : Patients
        Whose they are.

    Returns
    -------
    Rows
        With `vector` and `matrix`.

    Raises
    ------
    InputError
        When the encoder is not there, or embeddings do not fit it.
    """
    from gnnpatient.content import vectors as content
    from gnnpatient.content.embed import find_encoder

    assert node.embed is not None
    if node.embed not in source.own_encoders:
        images = node.file is not None
        beside = source.folder if images or isinstance(source.place, Path) else source.files or Path()
        encoder = find_encoder(node.embed, beside, images=images, allow_network=source.allow_network)
        node = node.model_copy(update={"embed": str(encoder)})
    options = _embed_options(source)
    if node.file is not None:
        found = content.image_content(kind, node, cells, source.folder, options, rows.patient, patients.ids)
    else:
        found = content.text_content(kind, node, cells, options)
    reasons = np.array(found.why, dtype=object)
    for reason in sorted(set(found.why) - {""}):
        source.refuse(rows.source[reasons == reason], reason)
    source.flags += found.flags
    if len(found.vector) and found.encoder:
        source.encoders[kind] = f"{found.encoder}; {node.prepared}"
    source.image_keys[kind] = found.keys
    if found.death_rows is not None:
        source.death_texts[kind] = rows.patient[found.death_rows], rows.known[found.death_rows]
    rows = rows.only(found.item)
    return replace(rows, vector=found.vector, matrix=found.matrix)


def _embed_options(source: SourceTables) -> EmbedOptions:
    from gnnpatient.content.vectors import EmbedOptions

    return EmbedOptions(
        source.cache, source.device, source.embed, source.allow_network, source.progress, source.own_encoders
    )


def measurements(source: SourceTables, kind: str, node: NodeSpec, rows: Rows) -> Rows:
    """Measurements of images, as nodes that happened and became known with their image.

    Parameters
    ----------
    source : SourceTables
        The tables, with the options of embedding.
    kind : str
        The node type of the measurements.
    node : NodeSpec
        Its spec, with `measures`.
    rows : Rows
        The images.

    Returns
    -------
    Rows
        A row for each image and measure, with the vector of the image.
    """
    from gnnpatient.content import vectors as content
    from gnnpatient.content.measure import UNITS

    assert node.measures is not None and rows.vector is not None
    images = source.spec.nodes[node.measures]
    assert images.table is not None and images.file is not None
    columns = [name for name in (images.file, node.region) if name is not None]
    view = source.view(images.table, columns)
    line = rows.source - view.audit.start
    pairs = list(zip(*(ids(view.column(name))[line].fill_null("") for name in columns), strict=True))
    keys = [source.image_keys[node.measures][i] for i in rows.vector]
    found = content.region_measurements(kind, images, pairs, keys, source.folder, _embed_options(source))
    if len(found.value) and found.encoder:
        source.encoders[kind] = f"{found.encoder}; {images.prepared}"
    for reason, n in sorted(Counter(found.why).items()):
        if reason:
            source.flags.append(f"{kind}: {n} of {len(pairs)} {node.measures} node(s) not measured: {reason}")
    item, column = np.nonzero(~np.isnan(found.value))
    names = pl.Series(list(UNITS), dtype=pl.String)[column]
    codes = ("other", *sorted(names.unique()))
    code = names.cast(pl.Enum(codes)).to_physical().cast(pl.Int32).to_numpy()
    unit = pl.Series(list(UNITS.values()), dtype=pl.String)[column]
    values = convert_values(source, kind, codes, code, unit, found.value[item, column].astype(float))
    for reason, cell in values.refused.items():
        if cell.any():
            source.flags.append(f"{kind}: {cell.sum()} measurement(s) left out: {reason}")
    keep = ~np.logical_or.reduce([np.zeros(len(item), bool), *values.refused.values()])
    return Rows(
        patient=rows.patient[item],
        known=rows.known[item],
        happened=rows.happened[item],
        code=code,
        value=values.value.astype(np.float32),
        source=rows.source[item],
        codes=codes,
        units=values.units,
        vector=rows.vector[item],
        study=None if rows.study is None else rows.study[item],
        replaced=None if rows.replaced is None else rows.replaced[item],
    ).only(keep)
